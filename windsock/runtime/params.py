"""A param whose schema is not valid is an error of its file, which names the param."""

from __future__ import annotations

from typing import Any


def check_param_schemas() -> None:
    """Let Airflow check the schemas of all params, in this process and in its forks.

    Airflow checks the params of a scheduled DAG when the DAG is made, and raises what jsonschema
    says, which names neither the param nor its schema. Those of another DAG it checks at a trigger,
    whose answer is then 500.
    """
    from airflow.sdk.definitions.dag import DAG  # noqa: PLC0415 - only Airflow has it
    from airflow.sdk.definitions.param import ParamsDict  # noqa: PLC0415 - the same

    validate_params, validate_dag = ParamsDict.validate, DAG.validate

    def check_and_validate_params(params: Any) -> Any:
        _check(params)
        return validate_params(params)

    def check_and_validate_dag(dag: Any) -> Any:
        _check(dag.params)
        return validate_dag(dag)

    ParamsDict.validate = check_and_validate_params
    DAG.validate = check_and_validate_dag


def _check(params: Any) -> None:
    """Raise a ValueError that names the first param whose schema is not valid."""
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - Airflow imports it late, too
    from jsonschema.validators import validator_for  # noqa: PLC0415 - the same

    for name, param in params.items():
        try:
            validator_for(param.schema).check_schema(param.schema)
        except SchemaError as error:
            where = ".".join(map(str, error.path)) or "schema"
            reason = f"the schema of the param {name!r} is not valid: {error.message} ({where})"
            raise ValueError(reason) from None
