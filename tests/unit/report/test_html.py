"""HTML of a report: texts of users, tables, nested records."""

from __future__ import annotations

from glrnn_hpc.report import html


def test_what_users_wrote_is_no_html():
    text = html.render_page(
        "<b>", html.description_list({"a": "<i>"}), [html.Section("one", "A & B", html.paragraph("<p>"))], "<"
    )
    for wrong in ("<b>", "<i>", "A & B", "<p><p>"):
        assert wrong not in text
    assert "default-src 'none'" in text
    table = html.table("t", ["x", "y"], [["<u>", "<u>"], ["1", "2"]], texts=[1], best=1)
    assert '<tr><th scope="row">&lt;u&gt;</th><td class="text">&lt;u&gt;</td></tr>' in table
    assert '<tr class="best"><th scope="row">1</th><td class="text">2</td></tr>' in table
    assert "<td>2</td>" in html.table("t", ["x", "y"], [["1", "2"]])
    image = html.embed_figure(b"\x89PNG", "history", '"><u>', "<u>", 700.4)
    assert 'alt="&quot;&gt;&lt;u&gt;" style="min-width:700px"' in image
    assert "base64,iVBORw==" in image
    assert "<u>" not in image
    assert html.omitted_figure("<s>", is_fault=True) == '<p class="left-out fault">Left out: &lt;s&gt;</p>'


def test_provenance_is_flattened_to_rows_that_can_be_read():
    content = {
        "trial": 3,
        "git": None,
        "refused": [],
        "groups": ["a", "b"],
        "point": {"lr": 0.001},
        "errors": {"val": {"p": {"mae": 0.1, "r2": None}}, "n": 2},
        "labels": [{"name": "p", "unit": "MPa"}, {"n": 12345678}],
    }
    assert html.flatten(content) == [
        ("trial", "3"),
        ("git", "-"),
        ("refused", "none"),
        ("groups", "a, b"),
        ("point.lr", "0.001"),
        ("errors.val.p", "mae 0.1, r2 -"),
        ("errors.n", "2"),
        ("labels.p", "unit MPa"),
        ("labels.1", "n 12345678"),
    ]
