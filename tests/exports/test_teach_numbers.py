"""The page that learns: head.py's numbers in Node, the committed file, and the command."""

import json
import re

import cv2
import numpy as np
import pytest
from conftest import ROOT
from programs import first_installed
from taught_page import PACKED, bundled, page_text

import export
import reader
from exports import browser, teach_page, web_page
from network.preprocessing import preprocessing_of
from training import head


@pytest.fixture(scope='module')
def page():
    return page_text()


@pytest.fixture(scope='module')
def node():
    return first_installed('node')


def test_page_is_small_and_has_no_address(page):
    assert len(page.encode()) < 400_000
    for reach in ('http:', 'https:', 'fetch(', 'import(', 'XMLHttp', ' src='):
        assert reach not in page, reach


def test_features_are_paddles(page, node):
    tensors, config = bundled()
    picture = cv2.imread(str(ROOT / 'tests' / 'golden' / 'cat_227.png'))
    found = browser.ask(node, page, picture[..., ::-1], browser.FEATURES)
    wanted = preprocessing_of(config)
    crop = reader.centre_crop(reader.resize(picture, wanted), wanted.crop)[None]
    features, _ = head.MeanFeatures(tensors, config, mirrored=True)(None, crop, np.zeros(1, int))
    np.testing.assert_allclose(
        np.ravel(found), features[0], rtol=0, atol=1e-5 * np.abs(features).max()
    )


def test_fit_is_that_of_the_training(page, node):
    """Three classes of unequal size; the metric in the page is coarse, so are the last digits."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [20, 12, 8])
    features = rng.random((40, 512)) + rng.random((3, 512))[labels] / 2
    old = bundled()[0]['conv10.weight'][:, :, 0, 0]
    weight, bias = head.fit(head.Views(features, labels), 3, old)
    script = f"""(async () => {{
        const about = JSON.parse(part('about'));
        const bytes = bytesOf(part('metric'), about.metric_bytes);
        const metric = openMetric(bytes, about.metric_values, about.metric_rest);
        const rows = {json.dumps(features.round(6).tolist())}, labels = {labels.tolist()};
        const found = fitHead(rows, labels, 3, metric);
        return rows.map((row) => probabilitiesOf(found, row));
    }})()"""
    found = np.array(browser.run_in_node(node.path, page, script))
    logits = features @ weight.T + bias
    wanted = np.exp(logits - logits.max(axis=1, keepdims=True))
    wanted /= wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_interval_is_wilsons(page, node):
    """Wilson's of 9 of 10: 0.5958 to 0.9821 (Brown, Cai, DasGupta, 2001, formula 4)."""
    found = browser.run_in_node(node.path, page, '(async () => wilson(9, 10))()')
    assert found == pytest.approx([0.5958, 0.9821], abs=1e-4)


@pytest.mark.parametrize(
    ('file', 'folder'), [('teach.html', teach_page.TEACH), ('demo.html', None)]
)
def test_committed_page_holds_the_sources_as_they_are(file, folder):
    """`make docs` writes both."""
    text = (ROOT / 'docs' / file).read_text(encoding='utf-8')
    folder = folder or web_page.PAGE
    template = (folder / 'index.html').read_text(encoding='utf-8')
    for name in re.findall(r'\{\{(.+?\.\w+)\}\}', template):
        assert web_page.fill(f'{{{{{name}}}}}', {}, folder) in text, f'{name}: run `make docs`'


def test_command_writes_the_page(page, tmp_path, capsys):
    output = tmp_path / 'teach.html'
    assert export.main(['--to', 'teach', '--model', str(PACKED), '--output', str(output)]) == 0
    assert output.read_bytes() == page.encode()
    printed = capsys.readouterr().out
    assert f'{output.stat().st_size:,} bytes' in printed
    assert 'and Paddle agree' in printed or 'not checked' in printed


def test_command_refuses_what_it_would_ignore(tmp_path, capsys):
    output = tmp_path / 'teach.html'
    command = ['--to', 'teach', '--model', str(PACKED), '--output', str(output)]
    assert export.main([*command, '--calibrate', 'my.txt']) == 1
    assert 'is packed already; leave out --calibrate' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export.main([*command, '--title', 'My'])
    assert '--title does not go with --to teach' in capsys.readouterr().err
    assert not output.exists()
