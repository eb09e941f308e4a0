"""A run as one page that opens in any browser: report/index.html, with everything inside.

Whatever comes from files (class names, paths) is escaped; the page loads nothing.
"""

import base64
import html

from common.console import printable
from common.files import atomic_write

STYLE = """
:root { color-scheme: light; font: 15px/1.5 system-ui, sans-serif; color: #222; }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { margin-top: 2.5rem; font-size: 1.2rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
.figures div { background: #f3f6f9; border-radius: .5rem; padding: .7rem 1.1rem; }
.figures b { display: block; font-size: 1.5rem; }
img { max-width: 100%; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #e8e8e8; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; }
th { color: #777; font-weight: 500; position: sticky; top: 0; background: white; }
.bar { background: linear-gradient(#9cc3e6, #9cc3e6) no-repeat left / var(--share) 100%; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figure span { display: flex; gap: 2px; } figure img { width: 50%; }
figcaption { font-size: .85rem; color: #555; overflow-wrap: anywhere; }
.muted, summary { color: #777; }
"""
CLASS_HEADS = ('class', 'pictures', 'recall', 'precision', 'f1', 'most often taken for')


def write_page(path, title, figures, sections):
    """Write the page: `figures` {caption: text} in large type, `sections` {heading: markup}."""
    large = ''.join(f'<div><b>{_text(v)}</b>{_text(k)}</div>' for k, v in figures.items())
    parts = ''.join(f'<h2>{_text(head)}</h2>{body}' for head, body in sections.items() if body)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f'<title>{_text(title)}</title><style>{STYLE}</style>'
        f'<body><h1>{_text(title)}</h1><div class="figures">{large}</div>{parts}</body></html>\n'
    )
    with atomic_write(path, 'w', beside=True) as file:
        file.write(page)


def picture(content, caption, kind='png'):
    """An <img> that holds the bytes of a picture file."""
    data = base64.b64encode(content).decode()
    return f'<img alt="{_text(caption)}" src="data:image/{kind};base64,{data}">'


def class_table(rows):
    """The rows of report.per_class, those with pictures; the lowest recall first."""
    shown = sorted((row for row in rows if row['pictures']), key=lambda row: row['recall'])
    heads = ''.join(f'<th>{head}</th>' for head in CLASS_HEADS)
    return f'<table><tr>{heads}</tr>{"".join(map(_class_row, shown))}</table>'


def _class_row(row):
    shares = (row[name] for name in ('recall', 'precision', 'f1'))
    cells = ''.join(f'<td{_bar(share)}>{_percent(share)}</td>' for share in shares)
    other = f'{_text(row["most_confused_with"])} ({row["count"]})' if row['count'] else ''
    name = _text(row['name'])
    return f'<tr><td>{name}</td><td>{row["pictures"]}</td>{cells}<td>{other}</td></tr>'


def _bar(share):
    return '' if share is None else f' class="bar" style="--share:{share:.1%}"'


def _percent(share):
    return '–' if share is None else f'{share:.1%}'


def mistake_cards(mistakes):
    """`mistakes`: (JPEG of the picture, JPEG of where the network looked, lines of caption)."""
    cards = ''.join(
        f'<figure><span>{picture(seen, "picture", "jpeg")}'
        f'{picture(looked, "where the network looked", "jpeg")}</span>'
        f'<figcaption>{"<br>".join(map(_text, lines))}</figcaption></figure>'
        for seen, looked, lines in mistakes
    )
    return cards and f'<div class="cards">{cards}</div>'


def details(record):
    """A nested record (run.json's) as a folded list."""
    items = ''.join(f'<tr><td>{_text(k)}</td><td>{_text(v)}</td></tr>' for k, v in _flat(record))
    return f'<details><summary>everything</summary><table>{items}</table></details>'


def _flat(record, prefix=''):
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


def _text(value):
    return html.escape(printable(value))
