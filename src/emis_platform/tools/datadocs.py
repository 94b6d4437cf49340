"""datadocs: Great Expectations' pages -> a flat folder that opens from disk: no server, no script, no outside file, no clock."""

import html
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emis_platform.core import files

HEAD = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{css}</style>\n</head>'
)
ROW = r"<tr>(?:(?!</tr>).)*?>{}<(?:(?!</tr>).)*</tr>"
GONE = (
    r"<script\b.*?</script>",
    r"<style>.*?</style>",
    r"<link\b[^>]*>",
    r"<meta name=\"viewport\"[^>]*>",
    r"<title>[^<]*created[^<]*</title>|<title>\s*</title>",
    r"<img\b[^>]*>",
    r"<footer>.*?</footer>",
    r'<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions.*?(?=<div class="card d-md-block)',
    r'<li class="ge-breadcrumbs-item breadcrumb-item active".*?</li>',
    r"Data asset: None<br>",
    *(ROW.format(name) for name in ("Run Name", "Run Time", "ge_load_time")),
    r"-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
)
"""What needs the network, a script or a clock, as Great Expectations 1.24 writes it."""


def write(context: Any, results: Mapping[str, Any], folder: Path, rows: list[dict[str, Any]]) -> None:
    """The site of all results of the context -> `folder`, whole or not at all.

    `index.html` lists `rows` (one dict a file: name, file, rows, expectations, sha256); <name>.html is a file's verdict,
    <name>_suite.html its expectations with their reasons.
    """
    escape_stored(context)
    css = files.text(Path(__file__).with_name("datadocs.css"))
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        build(context, Path(scratch))
        pages = {name: next(Path(scratch).glob(f"validations/{name}/**/*.html")) for name in results}
        pages |= {f"{name}_suite": Path(scratch) / "expectations" / f"{name}.html" for name in results}
        for name, page in pages.items():
            files.replace(partial / f"{name}.html", clean(files.text(page), css))
    files.replace(partial / "index.html", index(rows, css))
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def build(context: Any, folder: Path) -> None:
    """Great Expectations' own site builder, into a folder."""
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)}
    site = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": backend}
    context.add_data_docs_site("pages", site)
    context.build_data_docs(site_names=["pages"])


def escape_stored(context: Any) -> None:
    """Escape every stored value: version 1.24 puts sampled values into its tables as they are, tags and all."""
    store = context.validation_results_store
    for key in store.list_keys():
        result = store.get(key)
        for one in result.results:
            one.result = escaped(one.result)
        store.set(key, result)


def escaped(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {key: escaped(inner) for key, inner in value.items()}
    return [escaped(inner) for inner in value] if isinstance(value, list) else value


def clean(page: str, css: str) -> str:
    for pattern in GONE:
        page = re.sub(pattern, "", page, flags=re.S)
    page = re.sub(r'href="(?:\.\./)+expectations/(\w+)\.html"', r'href="\1_suite.html"', page)
    page = re.sub(r'href="(?:\.\./)+index\.html"', 'href="index.html"', page)
    page = re.sub(r'(<a href="index\.html">)\s*</a>', r"\1Data Docs</a>", page)
    page = re.sub(r"\n\s*\n+", "\n", page)
    return page.replace("</head>", HEAD.format(css=css), 1)


def short(name: str, source: str, link: str) -> str:
    """A page for rows that were taken from files which have pages of their own."""
    head = HEAD.format(css=files.text(Path(__file__).with_name("datadocs.css")))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="UTF-8">\n<title>{html.escape(name)}</title>\n{head}\n<body>\n'
        f'<div class="container-fluid">\n<h1>{html.escape(name)}</h1>\n<p>Its rows are from {html.escape(source)}: '
        f'<a href="{html.escape(link)}">what those files met</a>.</p>\n</div>\n</body>\n</html>\n'
    )


def index(rows: list[dict[str, Any]], css: str) -> str:
    """The front page: one line for each file."""
    lines = "".join(
        '<tr><td><a href="{name}.html">{file}</a></td><td class="number">{rows}</td><td class="number">{expectations}</td>'
        '<td><a href="{name}_suite.html">reasons</a></td><td><code>{sha256}</code></td></tr>\n'.format(
            **{key: html.escape(str(value)) for key, value in row.items()}
        )
        for row in rows
    )
    head = '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="UTF-8">\n<title>Data Docs</title>\n</head>'
    return (
        head.replace("</head>", HEAD.format(css=css)) + '\n<body>\n<div class="container-fluid">\n<h1>Data Docs</h1>\n'
        "<p>Every file below met every expectation. A file that fails stays outside, and no page is written.</p>\n"
        '<div class="table-responsive"><table class="table">\n<thead><tr><th>File</th><th>Rows</th><th>Expectations met</th><th>Why</th>'
        f"<th>sha256</th></tr></thead>\n<tbody>\n{lines}</tbody>\n</table></div>\n"
        "<p>Built by Great Expectations; scripts and outside files are taken out.</p>\n</div>\n</body>\n</html>\n"
    )
