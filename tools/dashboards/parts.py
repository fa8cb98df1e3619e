"""How variables, panels, markers and pages look here, on top of Grafana's own builders.

Separate from the pages so that they hold nothing but what is asked and what it means. Every panel has a description
that says what is normal and what to do, and every query has the data source that the reader chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units
from tools.dashboards.promql import STEP

TAG = "segue"
WIDTH = 24
SOURCE = shapes.DataSourceRef(type_val="prometheus", uid="${datasource}")
SCHEMA_VERSION = 39
"""Lower than the SDK's own, which is that of Grafana's main branch: newer Grafanas lift a page to what they know, older
ones cannot do the reverse. Nothing here needs more."""

COUNT, PER_SECOND, REQUESTS, SHARE = units.Short, units.OpsPerSecond, units.RequestsPerSecond, units.PercentUnit
SECONDS, BYTES, BYTES_PER_SECOND = units.Seconds, units.BytesIEC, units.BytesPerSecondIEC
GREEN, YELLOW, RED, GREY = "green", "yellow", "red", "text"

Panel = stat.Panel | timeseries.Panel | bargauge.Panel


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel; `{{label}}` in the legend is the series' own."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """From which value on a panel shows which colour; `base` is the one below all."""

    base: str
    steps: tuple[tuple[float, str], ...] = ()


NEUTRAL = Limits(GREY)
NONE_IS_GOOD = Limits(GREEN, ((1, RED),))
SOME_ARE_NEEDED = Limits(RED, ((1, GREEN),))


def worse_above(warning: float, bad: float) -> Limits:
    """Green, then yellow, then red."""
    return Limits(GREEN, ((warning, YELLOW), (bad, RED)))


# --- variables --------------------------------------------------------------------------------------------------------


def data_source() -> dashboard.DatasourceVariable:
    """Which Prometheus is asked."""
    return dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def choice(name: str, *, label: str, query: str, description: str) -> dashboard.QueryVariable:
    """Some or all of a label's values. All also means series without the label, as `segue up` has them."""
    return some_of(name, label=label, query=query, description=description).include_all(True).all_value(".*")


def some_of(name: str, *, label: str, query: str, description: str) -> dashboard.QueryVariable:
    """One or more of a label's values; the first, until somebody chooses."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query(query)
        .definition(query)
        .multi(True)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


# --- panels -----------------------------------------------------------------------------------------------------------


def figure(*, title: str, description: str, expr: str, unit: str, limits: Limits, width: int = 4) -> stat.Panel:
    """One number, as it is now."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .with_target(_asked(Query(expr)).instant())
        .unit(unit)
        .thresholds(_thresholds(limits))
        .mappings([_idle()])
        .no_value("no data")
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .reduce_options(_latest())
        .span(width)
        .height(4)
    )


def lines(
    *, title: str, description: str, queries: Sequence[Query], unit: str, limits: Limits | None = None, width: int = 12
) -> timeseries.Panel:
    """Lines over time, with the limits as lines where there are any."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(8)
        .show_points(shapes.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING))
        .span(width)
        .height(8)
    )
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(_asked(query).range().ref_id(letter))
    if limits is None:
        return panel.thresholds(_thresholds(NEUTRAL))
    style = common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(_thresholds(limits)).thresholds_style(style)


def layers(*, title: str, description: str, queries: Sequence[Query], unit: str, width: int = 12) -> timeseries.Panel:
    """Lines on top of each other, where only the sum means something."""
    stacked = common.StackingConfig().mode(shapes.StackingMode.NORMAL)
    return (
        lines(title=title, description=description, queries=queries, unit=unit, width=width)
        .stacking(stacked)
        .fill_opacity(40)
    )


def ranking(*, title: str, description: str, query: Query, unit: str, width: int = 12) -> bargauge.Panel:
    """Bars, the longest first."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .with_target(_asked(query).instant())
        .unit(unit)
        .min(0)
        .thresholds(_thresholds(Limits("blue")))
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .reduce_options(_latest())
        .no_value("no data")
        .span(width)
        .height(9)
    )


# --- markers ----------------------------------------------------------------------------------------------------------


def marker(*, name: str, expr: str, text: str, colour: str) -> dashboard.AnnotationQuery:
    """A mark on all panels wherever the expression has a value above 0."""
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .hide(False)
        .icon_color(colour)
        .expr(expr)
        .step(STEP)
        .title_format(name)
        .text_format(text)
        .tag_keys("voice,revision")
    )


def marker_at(*, name: str, expr: str, text: str, colour: str) -> dashboard.AnnotationQuery:
    """A mark on all panels at the times that the expression has as values, in Unix milliseconds."""
    return marker(name=name, expr=expr, text=text, colour=colour).use_value_for_time(True)


# --- pages ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading; they are laid side by side as long as there is room."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One dashboard.

    Attributes
    ----------
    name
        Of its file; its uid is `segue-NAME` and never changes, since people keep links to it.
    """

    name: str
    title: str
    description: str
    variables: Sequence[dashboard.QueryVariable]
    rows: Sequence[Row]
    markers: Sequence[dashboard.AnnotationQuery] = ()
    since: str = "now-3h"

    @property
    def uid(self) -> str:
        """By which links find it."""
        return f"{TAG}-{self.name}"

    def build(self) -> models.Dashboard:
        """As Grafana reads it; panels are numbered in their order."""
        page = (
            dashboard.Dashboard(f"Segue / {self.title}")
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .readonly()
            .time(self.since, "now")
            .refresh("30s")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .variables([data_source(), *self.variables])
            .annotations(list(self.markers))
            .link(_to_the_others())
        )
        numbers = iter(range(1, 1000))
        for row in self.rows:
            page.with_row(dashboard.Row(row.title).id(next(numbers)))
            for panel in row.panels:
                page.with_panel(panel.id(next(numbers)))
        built = page.build()
        built.schema_version = SCHEMA_VERSION
        return built


def _to_the_others() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Segue").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True).icon("external link")


def _asked(query: Query) -> prometheus.Dataquery:
    asked = prometheus.Dataquery().datasource(SOURCE).expr(query.expr).interval(STEP)
    return asked.legend_format(query.legend).ref_id("A")


def _thresholds(limits: Limits) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(color=limits.base), *(models.Threshold(value, color) for value, color in limits.steps)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _idle() -> models.SpecialValueMap:
    """A quantile of nothing is NaN."""
    idle = models.ValueMappingResult(text="idle", color=GREY)
    return models.SpecialValueMap(models.DashboardSpecialValueMapOptions(models.SpecialValueMatch.NA_N, idle))


def _latest() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(shapes.LegendDisplayMode.LIST)
        .placement(shapes.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
