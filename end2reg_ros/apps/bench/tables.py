"""The document of ``end2reg bench`` as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from end2reg_ros.evaluation.tables import NOTHING, markdown_table, number, percent, table_of

Document = Mapping[str, Any]


def markdown(document: Document) -> str:
    """All tables."""
    about, shown, case = document["environment"], document["input"], document["case"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    load = " to ".join(number(value, 1) for value in about["load_average"])
    lines = [
        f"# Speed: {shown['frames']} frames of {shown['image']} ({shown['points']} points)",
        "",
        f"- Case {case['name']} ({case['hash'][:12]}), scenario {shown['scenario']}, seed {shown['seed']}, "
        f"{shown['rate_hz']:g} Hz; input {shown['sha256'][:12]}.",
        f"- {about['processor']}, {about['cpus']} cores, {about['system']}, load {load}"
        f"{', GPU ' + about['gpu'] if about['gpu'] else ''}. {versions}.",
        f"- Methods take turns on the same frames, {document['turns']['block']} at a time, each in a process of its own. "
        "Start: landmarks picked with 3 mm of noise. Times are of frames that were followed; p50 / p95 / p99.",
        f"- Frames come {'at the rate above' if document['turns']['paced'] else 'as fast as a method takes them'}; "
        "frames/s is what the time of a frame would allow. CPU is all that the process did from one frame to the next.",
        f"- Publish: {document['publish']['why']}.",
        *(f"- Not measured: {row['label']}: {row['why']}." for row in document["absent"]),
    ]
    methods, scaling = document["methods"], document["scaling"]
    sections = [
        ("", main_table(methods)),
        ("## Stages, ms p50 / p95 / p99", stage_table(methods)),
        ("", parts_table(methods)),
        ("", network_table(methods)),
        ("## From nothing (no start given), ms of one registration", starts_table(methods)),
        (
            "## Cloud size: ms p50 of a track's next frame (passed the checks) / of a start from nothing",
            cloud_table(scaling["cloud"]),
        ),
        ("## Threads and cores, ms p50 / p95 of a followed frame", thread_table(scaling["threads"])),
    ]
    for heading, table in sections:
        if table:
            lines += ["", *([heading, ""] if heading else []), *table]
    return "\n".join(lines) + "\n"


def main_table(methods: Sequence[Document]) -> list[str]:
    """One row a method: time, cost, memory, error."""
    rows = []
    for m in methods:
        f, a, memory, up = m["followed"], m["accuracy"], m["memory"], m["set_up_s"]
        quartiles = f"[{number(a['tre_q1_mm'])}, {number(a['tre_q3_mm'])}]"
        failures = ", ".join(f"{code} {count}" for code, count in m["failures"].items())
        rows.append(
            {
                "method": m["label"],
                "frames": str(m["frames"]),
                "poses": str(m["poses"]),
                "failures": failures or "none",
                "ms": three(f["total_ms"]),
                "frames/s": number(f["frames_per_s"], 1),
                "CPU ms p50": number(f["cpu_ms"]["p50"], 1),
                "cores used": number(f["cores_used"]),
                "RSS / peak MB": f"{number(memory['rss_mb'], 0)} / {number(memory['peak_mb'], 0)}",
                "GPU MB": number(memory["gpu_mb"], 0),
                "TRE median [Q1, Q3] mm": f"{number(a['tre_median_mm'])} {quartiles}",
                "TRE p95": number(a["tre_p95_mm"]),
                "> 10 mm": percent(a["over_10mm"]),
                "set-up + warm-up s": f"{number(up['load'], 1)} + {number(up['warm_up'], 1)}",
            }
        )
    return table_of(rows)


def stage_table(methods: Sequence[Document]) -> list[str]:
    """One row a stage, one column a method. Stages side by side with others take no time of their own out of the total."""
    names = list(dict.fromkeys(stage for m in methods for stage in m["followed"]["stages_ms"]))
    body = []
    for name in [*(n for n in names if n != "other"), *(n for n in names if n == "other")]:
        found = [m["followed"]["stages_ms"].get(name) for m in methods]
        beside = any(name in m["followed"]["side_by_side"] for m in methods)
        shown = f"{name} (side by side)" if beside and not name.endswith(")") else name
        body.append([shown, *(NOTHING if stage is None else three(stage) for stage in found)])
    body.append(["publish", *("0" for _ in methods)])
    body.append(["total", *(three(m["followed"]["total_ms"]) for m in methods)])
    return markdown_table(["stage", *(m["label"] for m in methods)], body)


def parts_table(methods: Sequence[Document]) -> list[str]:
    """Parts of the learned methods' stages; empty where there are none."""
    learned = [m for m in methods if m["network_parts_ms"]]
    if not learned:
        return []
    names = list(dict.fromkeys(part for m in learned for part in m["network_parts_ms"]))
    body = [[n, *(number(m["network_parts_ms"].get(n), 2) for m in learned)] for n in names]
    intro = "One cloud cut out around the true pose, measured apart, ms p50:"
    return [intro, "", *markdown_table(["part", *(m["label"] for m in learned)], body)]


def network_table(methods: Sequence[Document]) -> list[str]:
    """The network's own poses against the published ones; empty where there are none."""
    learned = [m for m in methods if m["network"]["poses"]]
    if not learned:
        return []
    rows = []
    for m in learned:
        n = m["network"]
        alone, refined = n["accuracy"], n["accuracy_refined"]
        rows.append(
            {
                "method": m["label"],
                "poses": str(n["poses"]),
                "network alone: TRE median mm": number(alone["tre_median_mm"]),
                "its p95": number(alone["tre_p95_mm"]),
                "the same refined: TRE median mm": number(refined["tre_median_mm"]),
                "p95": number(refined["tre_p95_mm"]),
                "crop, tables and network, ms": three(n["total_ms"]),
            }
        )
    return ["Before and after refinement:", "", *table_of(rows)]


def starts_table(methods: Sequence[Document]) -> list[str]:
    """One row a method."""
    starts = [(m["label"], m["from_nothing"]) for m in methods]
    return table_of(
        [
            {
                "method": label,
                "n": str(s["frames"]),
                "ms p50 / p95 / p99": three(s["total_ms"]),
                "reported": str(s["reported"]),
                "of these right": str(s["right"]),
                "TRE median mm, all": number(s["accuracy"]["tre_median_mm"]),
                "TRE median mm, reported": number(s["accuracy_reported"]["tre_median_mm"]),
            }
            for label, s in starts
        ]
    )


def cloud_table(rows: Sequence[Document]) -> list[str]:
    """One row a method, one column a size; empty without rows."""
    cells = {
        (row["label"], row["points"]): f"{number(row['followed']['total_ms']['p50'], 1)} "
        f"({row['passed']} of {row['followed']['frames']}) / {number(row['from_nothing']['total_ms']['p50'], 0)}"
        for row in rows
    }
    return _grid(cells, lambda points: f"{points} points")


def thread_table(rows: Sequence[Document]) -> list[str]:
    """One row a method, one column a number of threads and cores; empty without rows."""
    cells = {}
    for row in rows:
        ms = row["followed"]["total_ms"]
        text = f"{number(ms['p50'], 1)} / {number(ms['p95'], 1)}"
        cells[row["label"], (row["threads"], row["cores"])] = text
    return _grid(cells, lambda count: f"threads {count[0]}, cores {count[1]}")


def _grid(cells: Mapping[tuple[str, Any], str], head: Callable[[Any], str]) -> list[str]:
    """A table of cells by method and column, columns sorted; empty without cells."""
    if not cells:
        return []
    columns = sorted({column for _, column in cells})
    labels = dict.fromkeys(label for label, _ in cells)
    body = [[label, *(cells.get((label, column), NOTHING) for column in columns)] for label in labels]
    return markdown_table(["method", *map(head, columns)], body)


def three(values: Mapping[str, float | None]) -> str:
    """``p50 / p95 / p99``."""
    return " / ".join(number(values[f"p{p}"], 1) for p in (50, 95, 99))
