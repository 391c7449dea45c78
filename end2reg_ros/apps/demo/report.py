"""The report of a run: a folder with one self-contained HTML page, its pictures, the figures as JSON and the log."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from end2reg_ros.apps.demo.figures import cards, figures, verdict
from end2reg_ros.apps.demo.plots import age_histogram, error_over_time, error_per_level
from end2reg_ros.apps.demo.record import DemoRun, Picture, summary_json
from end2reg_ros.apps.demo.summary import intervals
from end2reg_ros.evaluation.plot_style import GRID, STATE_COLOURS

MAX_EVENTS = 40


def write_report(folder: Path, run: DemoRun, pictures: Sequence[Sequence[Picture]] = ()) -> Path:
    """Write ``index.html``, ``summary.json`` and the pictures into a folder; returns the page.

    ``pictures`` are shown in rows of two. The page holds everything inside itself and loads nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for row in pictures:
        for picture in row:
            (folder / f"{picture.name}.jpg").write_bytes(picture.jpeg)
    (folder / "summary.json").write_text(json.dumps(summary_json(run), indent=2) + "\n", encoding="utf-8")
    page = folder / "index.html"
    page.write_text(render(run, pictures), encoding="utf-8")
    return page


def render(run: DemoRun, pictures: Sequence[Sequence[Picture]] = ()) -> str:
    """The page as text."""
    import jinja2

    template = Path(__file__).with_name("report_template.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    spans = intervals(run.rows)
    return environment.from_string(template).render(
        title=run.title,
        subtitle=run.subtitle,
        problems=list(run.problems),
        verdict=verdict(run.summary),
        cards=cards(run),
        plots={
            "time": error_over_time(run.rows),
            "levels": error_per_level(run.rows),
            "ages": age_histogram(run.rows),
        },
        pictures=[[_picture(p) for p in row] for row in pictures],
        levels=[{"name": name, "colour": colour} for name, colour in run.levels],
        events=[
            {
                "start": f"{s.start:.2f}",
                "length": f"{s.end - s.start:.2f}",
                "state": s.state,
                "colour": STATE_COLOURS.get(s.state, GRID),
                "reason_code": s.reason_code,
                "reason": s.reason,
            }
            for s in spans[:MAX_EVENTS]
        ],
        more_events=max(0, len(spans) - MAX_EVENTS),
        figures=figures(run),
        configuration=list(run.configuration.items()),
        start=run.tracker.start,
        network=run.summary.compared_twice > 0,
    )


def _picture(picture: Picture) -> dict[str, str]:
    data = base64.b64encode(picture.jpeg).decode()
    return {"uri": f"data:image/jpeg;base64,{data}", "caption": picture.caption, "alt": picture.alt}
