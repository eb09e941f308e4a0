"""What the documentation says is there, and is what happens."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

PAGES = [
    *ROOT.glob('*.md'),
    *(ROOT / 'docs').rglob('*.md'),
    *(ROOT / 'examples').rglob('*.md'),
    ROOT / 'data' / 'README.md',
]
LINK = re.compile(r'\]\(([^)#\s]+)(?:#[^)]*)?\)')
FLAG = re.compile(r'(?<![\w-])--[a-z][a-z_0-9-]*')
BLOCK = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
RUN = re.compile(r'<!-- run -->\n```console\n(.*?)^```', re.MULTILINE | re.DOTALL)
# Flags of other programs that the pages name.
OTHERS = {'--master', '--nnodes', '--rank', '--devices', '--host', '--help', '--no-deps'}


def name_of(page):
    return str(page.relative_to(ROOT))


def text_of(page):
    return page.read_text(encoding='utf-8')


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    links = [link for link in LINK.findall(text_of(page)) if '://' not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_page_can_be_reached_from_the_first():
    reached, new = set(), {ROOT / 'README.md'}
    while new:
        page = new.pop()
        reached.add(page)
        links = [link for link in LINK.findall(text_of(page)) if link.endswith('.md')]
        new |= {(page.parent / link).resolve() for link in links if '://' not in link} - reached
    assert set((ROOT / 'docs').rglob('*.md')) <= reached


def test_the_first_page_stays_short_and_both_languages_show_the_same_commands():
    english, chinese = ROOT / 'README.md', ROOT / 'README.zh-CN.md'
    assert len(text_of(english).splitlines()) <= 200

    def commands(page):
        lines = [line for _, block in BLOCK.findall(text_of(page)) for line in block.splitlines()]
        return [line.split('#')[0].strip() for line in lines if 'python' in line or 'pip' in line]

    assert commands(english) == commands(chinese)


def flags_of(text):
    return {flag for flag in FLAG.findall(text) if not flag.startswith('--no-')}


def test_the_page_of_commands_is_current():
    """By the flags: how argparse breaks lines differs between Pythons."""
    page = text_of(ROOT / 'docs' / 'commands.md')
    for name, text in re.findall(r'^## (\w+)\.py\n(.*?)(?=^## |\Z)', page, re.M | re.S):
        done = subprocess.run(
            [sys.executable, ROOT / f'{name}.py', '--help'], capture_output=True, text=True
        )
        assert flags_of(done.stdout) == flags_of(text), 'python docs/make_commands.py writes it'


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_flags_that_a_page_names_exist(page):
    if page.name == 'CHANGELOG.md':
        return
    known = FLAG.findall(text_of(ROOT / 'docs' / 'commands.md'))
    unknown = set()
    for line in text_of(page).splitlines():
        if 'apt' not in line and 'pip' not in line:
            unknown |= set(FLAG.findall(line)) - set(known) - OTHERS
    assert not unknown


@pytest.mark.parametrize('page', [ROOT / 'README.md', ROOT / 'README.zh-CN.md'], ids=name_of)
def test_blocks_that_are_marked_print_what_they_show(page):
    blocks = RUN.findall(text_of(page))
    assert blocks
    for block in blocks:
        first, *wanted = block.strip().splitlines()
        command = shlex.split(first.removeprefix('$ '))
        assert command[0] == 'python'
        done = subprocess.run(
            [sys.executable, *command[1:]], capture_output=True, text=True, cwd=ROOT, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == wanted
