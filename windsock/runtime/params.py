"""An error in the schema of a param names the param."""

from __future__ import annotations

from typing import Any


def name_params_in_errors() -> None:
    """Let Airflow name the param whose schema is not valid, in this process and in its forks.

    Airflow checks the params of a scheduled DAG when the DAG is made. About a schema that is not
    valid it raises what jsonschema says, which names neither the param nor its schema.
    """
    from airflow.sdk.definitions.param import ParamsDict  # noqa: PLC0415 - only Airflow has it

    validate = ParamsDict.validate

    def validate_by_name(params: Any) -> Any:
        from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - Airflow imports it late, too

        for name, param in params.items():
            try:
                param.resolve(suppress_exception=True)
            except SchemaError as error:
                where = ".".join(map(str, error.path)) or "schema"
                reason = f"the schema of the param {name!r} is not valid: {error.message} ({where})"
                raise ValueError(reason) from None
        return validate(params)

    ParamsDict.validate = validate_by_name
