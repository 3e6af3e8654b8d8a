"""The last touches to pages: bars that speak, sized images, icons without a script, own ids."""

import base64
import hashlib
import struct
import zlib

import nbformat
import pytest

from tests.book.extensions import extension

bars, finish = extension("code_bars"), extension("finish")


@pytest.mark.parametrize(
    ("code", "shown", "words"),
    [
        ("fig, ax = plt.subplots()", {"figure": "Fig. 3.2"}, "Code of Fig. 3.2"),
        ("# The exact weights.\nw = 1", {}, "Code: the exact weights"),
        ("import math\nx = 1", {}, "Code: what is imported, and the settings of this run"),
        ("run.sizes({})", {}, "Code: sizes of the experiments in each profile"),
        ('def f(x):\n    """Twice x."""\n    return 2 * x', {}, "Code: twice x"),
        ("t.round(2)", {"columns": ["law", "law", "bound"]}, "Code: table of law, bound"),
        ('r = sweep.results("rare", run)', {}, "Code: stored results of rare"),
        ("first = 1\nsecond = first + 1", {}, "Code: second, first"),
        ("print(1)", {}, "Code: the lines printed below"),
        ("print(inspect.getsource(theory.law))", {}, "Code: source of theory.law"),
        ("show(1)", {}, "Code: show()"),
        ("%matplotlib inline", {}, "Code"),
    ],
)
def test_a_bar_says_what_the_code_does(code, shown, words):
    assert bars.label(code, **shown) == words


def cell(code: str, output: str) -> str:
    return (
        '<div class="cell"><details class="admonition hide above-input">\n'
        '<summary aria-label="Toggle hidden content">\n'
        '<p class="collapsed admonition-title">Show the code</p>\n'
        '<p class="expanded admonition-title">Hide the code</p>\n</summary>\n'
        f"<div><pre><span>{code}</span></pre></div></details>{output}</div>"
    )


def test_a_bar_takes_the_number_of_the_figure_of_its_own_cell(tmp_path):
    figure = '<figure><span class="caption-number">Fig. 2.{} </span></figure>'
    page = cell("a = 1", figure.format(1)) + cell("bb = 2", "") + cell("cc = 3", figure.format(2))
    made = finish.Finisher(tmp_path, {}).page(page, tmp_path / "page.html")
    assert made.count("<summary>") == 3 and "Show the code" not in made
    spoken = [part.partition("<")[0] for part in made.split('<span class="code-bar">')[1:]]
    assert spoken == ["Code of Fig. 2.1", "Code: bb", "Code of Fig. 2.2"]


def png(width: int, height: int, dots: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    per_metre = round(dots / 0.0254)
    size = struct.pack(">IIB", per_metre, per_metre, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"pHYs", size)


def test_an_inch_of_a_figure_is_as_wide_in_every_format(tmp_path):
    (tmp_path / "a.png").write_bytes(png(880, 440, 110))
    (tmp_path / "b.png").write_bytes(png(1600, 800, 200))
    (tmp_path / "c.svg").write_text('<?xml?><svg xmlns="x" width="576pt" height="288pt" v="1">')
    (tmp_path / "d.svg").write_text('<svg height="288pt" width="576pt">')
    for name in ("a.png", "b.png", "c.svg", "d.svg"):
        assert finish.size(tmp_path / name) == (880, 440), name
    (tmp_path / "e.svg").write_text("<svg>")
    with pytest.raises(ValueError, match=r"e\.svg is neither"):
        finish.size(tmp_path / "e.svg")


def test_an_image_is_measured_late_and_opens_alone_and_phones_get_their_drawing(tmp_path):
    svg, png_type = "image/svg+xml", "image/png"
    wide, narrow = '<svg width="72pt" height="36pt">', '<svg width="36pt" height="72pt">'
    raster, small = png(110, 110, 110), png(55, 110, 110)
    coded = [base64.b64encode(image).decode() for image in (raster, small, png(220, 110, 110))]
    outputs = [
        ({svg: wide, finish.NARROW["svg"]: narrow}, {}),
        ({png_type: coded[0]}, {"pictures": True}),
        ({png_type: coded[2], finish.NARROW["png"]: coded[1]}, {}),
    ]
    made = [nbformat.v4.new_output("display_data", data, metadata=about) for data, about in outputs]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=made)])
    (tmp_path / "_images").mkdir()
    names = []
    for data, kind in ((wide.encode(), "svg"), (raster, "png"), (png(220, 110, 110), "png")):
        names.append(f"{hashlib.sha256(data).hexdigest()}.{kind}")
        (tmp_path / "_images" / names[-1]).write_bytes(data)
    finisher = finish.Finisher(tmp_path, finish.drawings([nb]))
    page = "".join(f'<img alt="words" src="../_images/{name}" />' for name in names)
    made = finisher.page(page, tmp_path / "chapters" / "page.html")
    for at in (0, 2):
        assert f'<a class="enlarge plot" href="../_images/{names[at]}"><picture>' in made
    assert '-narrow.svg" width="55" height="110"><img alt="words"' in made
    assert '-narrow.png" width="55" height="110"><img alt="words"' in made
    for at, data in ((0, narrow.encode()), (2, small)):
        stem, _, kind = names[at].partition(".")
        assert (tmp_path / "_images" / f"{stem}-narrow.{kind}").read_bytes() == data
    assert f'<a class="enlarge pictures" href="../_images/{names[1]}"><img alt="words"' in made
    assert made.count('loading="lazy" decoding="async"') == 3
    assert 'width="110" height="55"' in made and 'width="110" height="110"' in made


def test_icons_are_drawn_in_the_page(tmp_path):
    scripts = tmp_path / "_static" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "fontawesome.js").write_text(
        'x={sun:[512,512,[9728],"f185","Moutline"],"cloud-sun":[1,2,[],"f","Mno"]};'
        'y={a:[1,1,[],"f0","M"],sun:[512,256,[9728],"f185","Msolid"]}'
    )
    page = '<script defer src="_static/scripts/fontawesome.js?x"></script>' \
        '<i class="theme-switch fa-solid fa-sun   fa-lg" data-mode="light"></i>'  # fmt: skip
    made = finish.Finisher(tmp_path, {}).page(page, tmp_path / "page.html")
    assert made == (
        '<i class="theme-switch icon-large icon" data-mode="light"><svg viewBox="0 0 512 256" '
        'aria-hidden="true"><path fill="currentColor" d="Msolid"/></svg></i>'
    )


def test_no_id_comes_twice_and_code_is_left_alone():
    page = '<p id="a"></p><pre><b id="a"></pre><p class="x" id="a"></p><p id="b"></p><i id="a">'
    assert finish.own_ids(page) == (
        '<p id="a"></p><pre><b id="a"></pre><p class="x" id="a-2"></p><p id="b"></p><i id="a-3">'
    )


def test_scripts_wait_for_the_page():
    page = '<script src="a.js?v=1"></script><script src="documentation_options.js"></script>'
    made = finish.SCRIPT.sub(finish.Finisher.deferred, page)
    assert made == page.replace('<script src="a', '<script defer src="a')
