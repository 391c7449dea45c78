"""The document of ``end2reg bench`` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from end2reg_ros.evaluation.tables import NOTHING, markdown_table, number, percent

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
    heads = ["method", "frames", "poses", "failures", "ms", "frames/s", "CPU ms p50", "cores used", "RSS / peak MB",
             "GPU MB", "TRE median [Q1, Q3] mm", "TRE p95", "> 10 mm", "set-up + warm-up s"]  # fmt: skip
    body = []
    for m in methods:
        f, a, memory = m["followed"], m["accuracy"], m["memory"]
        failures = ", ".join(f"{code} {count}" for code, count in m["failures"].items()) or "none"
        tre = f"{number(a['tre_median_mm'], 2)} [{number(a['tre_q1_mm'], 2)}, {number(a['tre_q3_mm'], 2)}]"
        body.append(
            [
                m["label"],
                str(m["frames"]),
                str(m["poses"]),
                failures,
                three(f["total_ms"]),
                number(f["frames_per_s"], 1),
                number(f["cpu_ms"]["p50"], 1),
                number(f["cores_used"], 2),
                f"{number(memory['rss_mb'], 0)} / {number(memory['peak_mb'], 0)}",
                number(memory["gpu_mb"], 0),
                tre,
                number(a["tre_p95_mm"], 2),
                percent(a["over_10mm"]),
                f"{number(m['set_up_s']['load'], 1)} + {number(m['set_up_s']['warm_up'], 1)}",
            ]
        )
    return markdown_table(heads, body)


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
    heads = ["method", "poses", "network alone: TRE median mm", "p95", "the same refined: TRE median mm", "p95",
             "crop, tables and network, ms"]  # fmt: skip
    body = []
    for m in learned:
        n = m["network"]
        figures = [
            n[side][f"tre_{name}_mm"]
            for side in ("accuracy", "accuracy_refined")
            for name in ("median", "p95")
        ]
        body.append([m["label"], str(n["poses"]), *(number(f, 2) for f in figures), three(n["total_ms"])])
    return ["Before and after refinement:", "", *markdown_table(heads, body)]


def starts_table(methods: Sequence[Document]) -> list[str]:
    """One row a method."""
    heads = [
        "method",
        "n",
        "ms p50 / p95 / p99",
        "reported",
        "of these right",
        "TRE median mm, all",
        "TRE median mm, reported",
    ]
    body = []
    for m in methods:
        s = m["from_nothing"]
        body.append(
            [
                m["label"],
                str(s["frames"]),
                three(s["total_ms"]),
                str(s["reported"]),
                str(s["right"]),
                number(s["accuracy"]["tre_median_mm"], 2),
                number(s["accuracy_reported"]["tre_median_mm"], 2),
            ]
        )
    return markdown_table(heads, body)


def cloud_table(rows: Sequence[Document]) -> list[str]:
    """One row a method, one column a size; empty without rows."""
    if not rows:
        return []
    sizes = sorted({row["points"] for row in rows})
    body = []
    for label in dict.fromkeys(row["label"] for row in rows):
        mine = {row["points"]: row for row in rows if row["label"] == label}
        cells = [
            f"{number(mine[size]['followed']['total_ms']['p50'], 1)} "
            f"({mine[size]['passed']} of {mine[size]['followed']['frames']}) / "
            f"{number(mine[size]['from_nothing']['total_ms']['p50'], 0)}"
            for size in sizes
        ]
        body.append([label, *cells])
    return markdown_table(["method", *(f"{size} points" for size in sizes)], body)


def thread_table(rows: Sequence[Document]) -> list[str]:
    """One row a method, one column a number of threads and cores; empty without rows."""
    if not rows:
        return []
    counts = sorted({(row["threads"], row["cores"]) for row in rows})
    body = []
    for label in dict.fromkeys(row["label"] for row in rows):
        mine = {
            (row["threads"], row["cores"]): row["followed"]["total_ms"]
            for row in rows
            if row["label"] == label
        }
        cells = [
            NOTHING
            if count not in mine
            else f"{number(mine[count]['p50'], 1)} / {number(mine[count]['p95'], 1)}"
            for count in counts
        ]
        body.append([label, *cells])
    return markdown_table(
        ["method", *(f"threads {threads}, cores {cores}" for threads, cores in counts)], body
    )


def three(values: Mapping[str, float | None]) -> str:
    """``p50 / p95 / p99``."""
    return " / ".join(number(values[f"p{p}"], 1) for p in (50, 95, 99))
