"""The page that learns: head.py's numbers in Node, and in Chromium what people do with it.

Tests are skipped where the program that they need is not installed.
"""

import base64
import json
import shutil

import cv2
import numpy as np
import pytest
from conftest import ROOT

import export
import infer
import reader
from exports import browser, teach_page
from models.formats import packed
from network.preprocessing import preprocessing_of
from training import head

PACKED = ROOT / 'data' / 'squeezenet_v1.1.sqz'
EVIL = ['</script><b>x</b>', '" onerror="document.title=1" {{model}} $& \u202e砾石' + 'long ' * 30]


@pytest.fixture(scope='module')
def bundled():
    """(tensors, config) of the packed network in data/."""
    return packed.read_packed(PACKED)


@pytest.fixture(scope='module')
def page(bundled):
    tensors, config = bundled
    return teach_page.build(PACKED.read_bytes(), config, tensors['conv10.weight'][:, :, 0, 0])


@pytest.fixture(scope='module')
def node():
    return program('node')


@pytest.fixture(scope='module')
def chromium():
    return program(*browser.BROWSERS)


def program(*names):
    path = next(filter(None, map(shutil.which, names)), None)
    return path or pytest.skip(f'none of these is installed: {", ".join(names)}')


def textures():
    """[(class, path)] of the bundled demo: two classes, six pictures each."""
    folders = sorted((ROOT / 'data' / 'textures' / 'train').iterdir())[:2]
    return [(label, path) for label, f in enumerate(folders) for path in sorted(f.iterdir())[:6]]


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


# --- the numbers ----------------------------------------------------------------------------------


def test_page_is_small_and_has_no_address(page):
    assert len(page.encode()) < 400_000
    for reach in ('http:', 'https:', 'fetch(', 'import(', 'XMLHttp', ' src='):
        assert reach not in page, reach


def test_features_are_paddles(page, bundled, node):
    tensors, config = bundled
    picture = cv2.imread(str(ROOT / 'tests' / 'golden' / 'cat_227.png'))
    rgba = base64.b64encode(cv2.cvtColor(picture, cv2.COLOR_BGR2RGBA).tobytes()).decode()
    script = f"""(async () => {{
        const about = JSON.parse(part('about'));
        const network = await openFeatures(about, part('model'));
        const data = Uint8ClampedArray.from(atob('{rgba}'), (letter) => letter.charCodeAt(0));
        const small = resize({{ width: 227, height: 227, data }}, about.preprocessing);
        const input = networkInput(small, about.preprocessing);
        return [input, mirror(input)].map((x) => Array.from(meanFeatures(network(x), 0)));
    }})()"""
    found = browser.run_in_node(node, page, script)
    wanted = preprocessing_of(config)
    crop = reader.centre_crop(reader.resize(picture, wanted), wanted.crop)[None]
    features, _ = head.MeanFeatures(tensors, config, mirrored=True)(None, crop, np.zeros(1, int))
    np.testing.assert_allclose(found, features, rtol=0, atol=1e-5 * np.abs(features).max())


def test_fit_is_that_of_the_training(page, bundled, node):
    """Three classes of unequal size; the metric in the page is coarse, so are the last digits."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [20, 12, 8])
    features = rng.random((40, 512)) + rng.random((3, 512))[labels] / 2
    old = bundled[0]['conv10.weight'][:, :, 0, 0]
    weight, bias = head.fit(head.Views(features, labels), 3, old)
    script = f"""(async () => {{
        const about = JSON.parse(part('about'));
        const bytes = bytesOf(part('metric'), about.metric_bytes);
        const metric = openMetric(bytes, about.metric_values, about.metric_rest);
        const rows = {json.dumps(features.round(6).tolist())}, labels = {labels.tolist()};
        const found = fitHead(rows, labels, 3, metric);
        return rows.map((row) => probabilitiesOf(found, row));
    }})()"""
    found = np.array(browser.run_in_node(node, page, script))
    logits = features @ weight.T + bias
    wanted = np.exp(logits - logits.max(axis=1, keepdims=True))
    wanted /= wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_interval_is_wilsons(page, node):
    """Wilson's of 9 of 10: 0.5958 to 0.9821 (Brown, Cai, DasGupta, 2001, formula 4)."""
    found = browser.run_in_node(node, page, '(async () => wilson(9, 10))()')
    assert found == pytest.approx([0.5958, 0.9821], abs=1e-4)


# --- what people do -------------------------------------------------------------------------------

TEACH = """(async ([names, files, asked]) => {
  const fileOf = (name, text) => new File([Uint8Array.from(atob(text), (l) => l.charCodeAt(0))],
    name, { type: 'image/png' });
  window.saved = {};
  download = (name, content) => { saved[name.split('.').pop()] = content; };
  const found = files.map(([label, text]) => ({ folder: names[label], file: fileOf('x', text) }));
  const broken = { folder: names[0], file: fileOf('broken.png', 'AAAA') };
  found.splice(1, 0, broken);
  $('mirrored').checked = false;
  await takeFiles(found);
  const word = status[0];
  while (!taught) await new Promise((go) => setTimeout(go, 20));
  await tryPicture(fileOf('y', asked));
  $('title').value = names[0];
  await savePage();
  await saveModel();
  saveProject();
  const chances = probabilitiesOf(taught.head, shown.views[0]);
  await openProject(new File([saved.json], 'x.json'));
  while (!taught) await new Promise((go) => setTimeout(go, 20));
  let text = '';
  for (const byte of saved.safetensors) text += String.fromCharCode(byte);
  return { word, chances, model: btoa(text), page: saved.html, share: $('share').textContent,
    shown: Array.from(document.querySelectorAll('#answers .name'), (e) => e.textContent),
    again: probabilitiesOf(taught.head, shown.views[0]), title: document.title,
    pictures: document.querySelectorAll('#classes-list img').length,
    markup: document.querySelectorAll('main b').length };
})(%s)"""


@pytest.fixture(scope='module')
def lesson(page, chromium):
    """What TEACH gives of two classes with hostile names, a broken file in the midst."""
    files = [(label, encoded(path)) for label, path in textures()]
    question = json.dumps([EVIL, files, files[-1][1]])
    with browser.Browser(chromium, page) as shown:
        return shown.evaluate(TEACH % question)


def test_two_classes_are_taught_and_answered(lesson):
    assert lesson['word'] == 'skipped'
    assert lesson['pictures'] == 12
    assert lesson['share'] == '100 % right'
    assert lesson['shown'][0] == EVIL[1]
    assert lesson['markup'] == 0
    assert lesson['title'] == 'Teach your own classes'


def test_project_opened_again_answers_the_same(lesson):
    np.testing.assert_allclose(lesson['again'], lesson['chances'], atol=1e-6)


def test_model_answers_as_the_page_does(lesson, tmp_path):
    file = tmp_path / 'my.safetensors'
    file.write_bytes(base64.b64decode(lesson['model']))
    answers = infer.Classifier(file)(textures()[-1][1])
    found = dict(answers)
    for name, chance in zip(EVIL, lesson['chances']):
        assert found[name] == pytest.approx(chance, abs=1e-4)


def test_page_of_its_own_answers_the_same(lesson, chromium):
    picture = cv2.imread(str(textures()[-1][1]))
    rgba = base64.b64encode(cv2.cvtColor(picture, cv2.COLOR_BGR2RGBA).tobytes()).decode()
    script = f"""(async () => {{
        const data = Uint8ClampedArray.from(atob('{rgba}'), (letter) => letter.charCodeAt(0));
        const size = {{ width: {picture.shape[1]}, height: {picture.shape[0]} }};
        const model = await ready;
        const {{ answer }} = look(model, about.preprocessing, {{ ...size, data }});
        return [document.title, model.names, answer.probabilities];
    }})()"""
    with browser.Browser(chromium, lesson['page']) as shown:
        title, names, chances = shown.evaluate(script)
    assert (title, names) == (EVIL[0], EVIL)
    np.testing.assert_allclose(chances, lesson['chances'], atol=1e-5)


def test_command_writes_the_page(page, tmp_path, capsys):
    output = tmp_path / 'teach.html'
    assert export.main(['--to', 'teach', '--model', str(PACKED), '--output', str(output)]) == 0
    assert output.read_bytes() == page.encode()
    assert f'{output.stat().st_size:,} bytes' in capsys.readouterr().out
