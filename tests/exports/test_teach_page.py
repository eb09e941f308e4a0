"""The page that learns: what people do with it, in Chromium.

Tests are skipped where the program that they need is not installed.
"""

import base64
import json
import shutil

import cv2
import numpy as np
import pytest
from conftest import ROOT
from programs import first_installed
from taught_page import page_text

import infer
from exports import browser

EVIL = ['</script><b>x</b>', '" onerror="document.title=1" {{model}} $& \u202e砾石' + 'long ' * 30]

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


CAMERA = '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'


@pytest.fixture(scope='module')
def page():
    return page_text()


@pytest.fixture(scope='module')
def chromium():
    return first_installed(*browser.BROWSERS).path


def textures():
    """[(class, path)] of the bundled demo: two classes, six pictures each."""
    folders = sorted((ROOT / 'data' / 'textures' / 'train').iterdir())[:2]
    return [(label, path) for label, f in enumerate(folders) for path in sorted(f.iterdir())[:6]]


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


@pytest.fixture(scope='module')
def shown(page, chromium):
    """The page in Chromium, whose camera shows a test pattern."""
    with browser.Browser(chromium, page, *CAMERA) as shown:
        yield shown


@pytest.fixture(scope='module')
def lesson(shown):
    """What TEACH gives of two classes with hostile names, a broken file in the midst."""
    files = [(label, encoded(path)) for label, path in textures()]
    return shown.evaluate(TEACH % json.dumps([EVIL, files, files[-1][1]]))


@pytest.fixture
def taught(shown, lesson):
    """The page as `lesson` left it: two classes, six pictures each."""
    shown.evaluate("unsaved = false; openProject(new File([saved.json], 'x.json'))")
    wait(shown, 'taught')
    return shown


def wait(shown, condition):
    """Wait until a JavaScript expression holds, 30 s at most."""
    held = shown.evaluate(f"""(async () => {{
        for (const end = Date.now() + 30_000; Date.now() < end;) {{
            if ({condition}) return true;
            await new Promise((go) => setTimeout(go, 20));
        }}
        return false;
    }})()""")
    assert held, condition


def mouse(shown, kind, selector):
    place = f"""(() => {{
        const element = document.querySelector({json.dumps(selector)});
        element.scrollIntoView({{ block: 'center' }});
        const {{ x, y, width, height }} = element.getBoundingClientRect();
        return [x + width / 2, y + height / 2];
    }})()"""
    x, y = shown.evaluate(place)
    shown.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)
    return {'x': x, 'y': y}


def click(shown, selector):
    mouse(shown, 'mousePressed', selector)
    mouse(shown, 'mouseReleased', selector)


def drop(shown, selector, *paths):
    place = mouse(shown, 'mouseMoved', selector)
    data = {'items': [], 'files': list(map(str, paths)), 'dragOperationsMask': 1}
    for kind in ('dragEnter', 'dragOver', 'drop'):
        shown.call('Input.dispatchDragEvent', type=kind, data=data, **place)


COUNTS = 'classes.map(({ pictures }) => pictures.length).join()'
SECOND_CLASS = '#classes-list section:nth-child(2)'


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


def test_picture_is_removed_by_click(taught):
    click(taught, f'{SECOND_CLASS} .thumbnails button')
    assert taught.evaluate(COUNTS) == '6,5'
    wait(taught, 'taught && taught.pictures.length === 11')


def test_pictures_are_dropped_on_a_class_and_folders_anywhere(taught, tmp_path):
    path = textures()[-1][1]
    drop(taught, SECOND_CLASS, path)
    wait(taught, f"{COUNTS} === '6,7'")
    for name in ('left', 'right'):
        (tmp_path / name).mkdir()
        shutil.copy(path, tmp_path / name)
    drop(taught, '#add', tmp_path / 'left', tmp_path / 'right')
    wait(taught, f"{COUNTS} === '6,7,1,1'")
    assert taught.evaluate('classes.slice(2).map(({ name }) => name)') == ['left', 'right']


def test_picture_is_dropped_to_try_it(taught):
    taught.evaluate("$('answers').replaceChildren()")
    drop(taught, '#stage', textures()[-1][1])
    wait(taught, "document.querySelector('#answers .name')")
    assert taught.evaluate("document.querySelector('#answers .name').textContent") == EVIL[1]


def test_picture_is_pasted(taught):
    """By an event as the browser makes it: file:// has no right to write the clipboard."""
    click(taught, f'{SECOND_CLASS} .count')
    taught.evaluate(f"""(() => {{
        const bytes = Uint8Array.from(atob('{encoded(textures()[0][1])}'), (l) => l.charCodeAt(0));
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([bytes], 'image.png', {{ type: 'image/png' }}));
        const event = new ClipboardEvent('paste', {{ clipboardData, bubbles: true }});
        document.body.dispatchEvent(event);
    }})()""")
    wait(taught, f"{COUNTS} === '6,7'")


def test_hardest_picture_is_shown_and_removed(taught):
    wrong = encoded(textures()[-1][1])
    taught.evaluate(f"""(async () => {{
        const bytes = Uint8Array.from(atob('{wrong}'), (letter) => letter.charCodeAt(0));
        const file = new File([bytes], 'wrong.png', {{ type: 'image/png' }});
        await takeFiles([{{ file, folder: '' }}], classes[0]);
    }})()""")
    wait(taught, f"taught && {COUNTS} === '7,6'")
    hardest = "document.querySelector('#hardest button img').src"
    assert taught.evaluate(f'{hardest} === classes[0].pictures[6].thumbnail')
    click(taught, '#hardest button')
    assert taught.evaluate(COUNTS) == '6,6'
    wait(taught, 'taught')
    assert taught.evaluate("$('hard').hidden")


def test_where_it_looked_is_drawn(taught):
    drop(taught, '#stage', textures()[-1][1])
    wait(taught, "!$('map').hidden")
    pixels = "$('view').getContext('2d').getImageData(0, 0, 50, 50).data.join()"
    plain = taught.evaluate(pixels)
    click(taught, '#mapped')
    mapped = taught.evaluate(pixels)
    click(taught, '#mapped')
    assert mapped != plain == taught.evaluate(pixels)


def test_mirror_images_count_as_long_as_they_are_asked_for(taught):
    head = 'taught.head.bias.join()'
    without = taught.evaluate(head)
    click(taught, '#mirrored')
    assert taught.evaluate('taught') is None
    wait(taught, 'taught')
    both = taught.evaluate(head)
    click(taught, '#mirrored')
    wait(taught, 'taught')
    assert both != without == taught.evaluate(head)


def test_camera_answers_and_records(taught):
    taught.evaluate("$('answers').replaceChildren()")
    click(taught, '#camera')
    wait(taught, "document.querySelector('#answers .name')")
    taught.evaluate("""(() => {
        const whole = createImageBitmap;
        createImageBitmap = () => { createImageBitmap = whole; throw new Error('no frame'); };
    })()""")
    wait(taught, "status[1] === 'no frame'")
    taught.evaluate("$('answers').replaceChildren()")
    wait(taught, "document.querySelector('#answers .name')")

    hold = f'{SECOND_CLASS} .buttons button:nth-child(2)'
    mouse(taught, 'mousePressed', hold)
    wait(taught, 'work.all >= 2')
    mouse(taught, 'mouseReleased', hold)
    wait(taught, f"!document.querySelector('{hold}.main') && !work.all")
    assert taught.evaluate('classes[1].pictures.length') >= 8
    click(taught, '#camera')
    assert taught.evaluate("$('video').srcObject") is None


def test_question_to_a_worker_that_does_not_open_fails(shown):
    messages = shown.evaluate("""Promise.all([
        makePool('throw new Error("first")', 2, {}).ask('see', {}),
        makePool('onmessage = () => postMessage({ error: "second" })', 2, {}).ask('see', {}),
    ].map((asked) => asked.catch(({ message }) => message)))""")
    assert 'first' in messages[0]
    assert messages[1] == 'second'


def test_closing_asks_as_long_as_something_is_unsaved(taught):
    click(taught, f'{SECOND_CLASS} .thumbnails button')
    taught.evaluate('void setTimeout(() => location.reload(), 300)')
    assert taught.wait_for_event('Page.javascriptDialogOpening')['type'] == 'beforeunload'
    taught.call('Page.handleJavaScriptDialog', accept=False)
    assert taught.evaluate(COUNTS) == '6,5'
