from __future__ import annotations

from dev import pictures, plots


def test_every_plot_is_that_of_its_table_and_stands_on_the_page() -> None:
    drawn = plots.plots(pictures.PERFORMANCE)
    assert sorted(drawn) == [f"bench-{name}.svg" for name in ("kube", "reload", "sync", "up")]
    page = pictures.PERFORMANCE.read_text(encoding="utf-8")
    for name, svg in drawn.items():
        assert f"](pictures/{name})" in page
        committed = (pictures.PICTURES / name).read_text(encoding="utf-8")
        assert committed == svg, f"{name} is not its table: run `invoke docs.pictures`"
