"""The web page: Paddle's numbers in Node and in Chromium, OpenCV's pixels, and what people see.

Tests are skipped where the program that they need is not installed.
"""

import base64
import json
import re

import cv2
import numpy as np
import paddle
import pytest
from conftest import GOLDEN
from programs import first_installed

import export
import reader
from common.console import UserError
from exports import browser, web_page
from models import model_io
from models.formats import packed
from network.preprocessing import Preprocessing, preprocessing_of

CAT = GOLDEN / 'cat_227.png'
OTHER_INPUT = Preprocessing(
    resize='warp', resize_size=140, crop=131, mean=(120.5, 110, 100), scale=0.5, channel_order='RGB'
)
EVIL = ['</script><b>x</b>', '<img src=x onerror="document.title=1">, "quoted" & 砾石', 'c']


@pytest.fixture(scope='module')
def node():
    return first_installed('node')


@pytest.fixture(scope='module')
def chromium():
    return first_installed(*browser.BROWSERS)


def pack(tensors, config):
    """Bytes of a packed file of these tensors, roughly rounded, every second layer dependent."""
    layers = {}
    for i, (name, shape) in enumerate(packed.layer_shapes(config).items()):
        weight, bias = tensors[f'{name}.weight'].reshape(shape[0], -1), tensors[f'{name}.bias']
        exponent = int(np.floor(np.log2(weight.std()))) - 5
        bias_exponent = int(np.floor(np.log2(np.abs(bias).max() + 1e-6))) - 13
        rows, columns = (np.arange(count) % 3 for count in weight.shape)
        dependent = i % 2 == 1
        levels = np.round(weight / 2.0 ** (exponent + dependent))
        layers[name] = packed.PackedLayer(
            levels.astype(np.int16),
            rows.astype(np.uint8),
            columns[::-1].astype(np.uint8),
            (rows % 2).astype(np.uint8),
            columns.astype(np.uint8),
            np.round(bias / 2.0**bias_exponent).astype(np.int16),
            exponent,
            bias_exponent,
            dependent,
        )
    return packed.pack(packed.Packed(layers, config, row_bits=3, column_bits=2))


@pytest.fixture(scope='module')
def made(seeded_tensors, tmp_path_factory):
    """Function (version, bypass, class_num, **make_config's) -> (packed file, tensors, config)."""

    def make(version='1.1', bypass=None, class_num=3, **others):
        config = model_io.make_config(version, bypass, class_num, **others)
        path = tmp_path_factory.mktemp('packed') / 'my.sqz'
        path.write_bytes(pack(seeded_tensors(version, bypass, class_num), config))
        tensors, config = packed.read_packed(path)
        config.setdefault('class_names', [str(number) for number in range(class_num)])
        return path, tensors, config

    return make


def page_of(path, config):
    return web_page.build(path.read_bytes(), config)


def paddle_logits(tensors, config, picture):
    """What Paddle computes of a picture, uint8 [h, w, 3] BGR."""
    wanted = preprocessing_of(config)
    crop = reader.centre_crop(reader.resize(picture, wanted), wanted.crop)
    network = model_io.build_network(tensors, config)
    network.eval()
    return network(paddle.to_tensor(reader.network_input(crop[None], wanted))).numpy()[0]


MODELS = [
    {'class_num': 10},
    {'version': '1.0', 'bypass': 'simple', 'conv10_pad': 1, 'class_names': EVIL},
    {'version': '1.0', 'bypass': 'complex', 'preprocessing': OTHER_INPUT},
    {'bypass': 'complex', 'conv10_relu': False, 'preprocessing': Preprocessing(resize='none')},
    {'bypass': 'simple', 'class_num': 1},
]


@pytest.mark.parametrize('options', MODELS, ids=str)
def test_logits_in_node_are_paddles(options, node, made):
    path, tensors, config = made(**options)
    picture = cv2.imread(str(CAT))
    found = browser.ask(node, page_of(path, config), picture[..., ::-1])['logits']
    wanted = paddle_logits(tensors, config, picture)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize('options', MODELS[1:3], ids=str)
def test_logits_in_chromium_are_paddles(options, chromium, made):
    path, tensors, config = made(**options)
    picture = cv2.imread(str(CAT))
    found = browser.ask(chromium, page_of(path, config), picture[..., ::-1])['logits']
    wanted = paddle_logits(tensors, config, picture)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize(
    ('size', 'how'),
    [
        ((640, 427), {}),
        ((375, 500), {}),
        ((512, 512), {}),  # halved exactly: OpenCV takes means
        ((512, 700), {'resize': 'warp'}),
        ((100, 31), {}),
        ((256, 256), {}),
        ((301, 227), {'resize': 'none'}),
        ((333, 218), {'resize_size': 131, 'crop': 131}),
        ((333, 109), {'resize_size': 218, 'crop': 131}),
    ],
    ids=str,
)
def test_pixels_are_opencvs(size, how, node, made):
    width, height = size
    wanted = Preprocessing(**how)
    picture = np.random.default_rng(7).integers(0, 256, (height, width, 3)).astype(np.uint8)
    rgba = base64.b64encode(cv2.cvtColor(picture, cv2.COLOR_BGR2RGBA).tobytes()).decode()
    script = f"""(async (how) => {{
        const data = Uint8ClampedArray.from(atob('{rgba}'), (letter) => letter.charCodeAt(0));
        const small = resize({{ width: {width}, height: {height}, data }}, how);
        const {{ data: input }} = networkInput(small, {{ ...how, mean: [0, 0, 0] }});
        return [small.width, small.height, ...input.subarray(0, 3 * how.crop ** 2)];
    }})({json.dumps(wanted.to_json())})"""
    path, _, config = made()
    found_width, found_height, *found = browser.run_in_node(
        node.path, page_of(path, config), script
    )
    resized = reader.resize(picture, wanted)
    crop = reader.centre_crop(resized, wanted.crop)
    assert (found_height, found_width) == resized.shape[:2]
    plane = -(-(wanted.crop**2) // 4) * 4  # a blob's channels begin at whole tiles of four
    first = np.array(found[: wanted.crop**2], np.uint8).reshape(crop.shape[:2])
    np.testing.assert_array_equal(first, crop[..., 0])
    second = found[plane : plane + 100]
    np.testing.assert_array_equal(second, crop[..., 1].ravel()[:100])


@pytest.mark.parametrize('length', [0, 1, 6, 7, 8, 30_000])
def test_text_becomes_the_same_bytes(length, node, made):
    content = np.random.default_rng(length).integers(0, 256, length).astype(np.uint8)
    content[: length // 3] = 0
    text = web_page.text_of(content.tobytes())
    assert not set(text) & set('\0\r<')
    script = f'(async () => Array.from(bytesOf({json.dumps(text)}, {length})))()'
    path, _, config = made()
    assert browser.run_in_node(node.path, page_of(path, config), script) == content.tolist()


def test_page_of_400_kB_is_below_half_a_megabyte(made):
    _, _, config = made()
    names = [f'{number}' * 6 for number in range(1000)]
    config = {**config, 'class_num': 1000, 'class_names': names}
    content = np.random.default_rng(1).integers(0, 256, 400_000).astype(np.uint8).tobytes()
    assert len(web_page.build(content, config).encode()) < 500_000


def test_page_reaches_out_for_nothing_and_names_are_no_markup(made):
    path, _, config = made(class_names=EVIL)
    page = page_of(path, config)
    for reach in ('http:', 'https:', 'fetch(', 'import(', 'XMLHttp', 'Worker(', ' src=', '<b>'):
        assert reach not in page, reach
    assert "default-src 'none'" in page
    assert page.count('</script>') == 6


def test_damage_is_told(node, made):
    path, _, config = made()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with pytest.raises(UserError, match='checksum'):
        browser.ask(node, web_page.build(bytes(content), config), cv2.imread(str(CAT)))


# --- what people see ------------------------------------------------------------------------------

DROP = """(async () => {
  await ready;
  const bytes = Uint8Array.from(atob('%s'), (letter) => letter.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], 'x.png', { type: '%s' }));
  status = ['looking'];
  const event = { dataTransfer: dropped, bubbles: true, cancelable: true };
  document.dispatchEvent(new DragEvent('drop', event));
  while (['ready', 'looking'].includes(status[0])) await new Promise((go) => setTimeout(go, 10));
  return status[0];
})()"""


def drop(page, content, kind='image/png'):
    """Drop a file on the page; the word that it then says."""
    return page.evaluate(DROP % (base64.b64encode(content).decode(), kind))


def test_a_dropped_picture_is_named_and_mapped(chromium, made):
    path, tensors, config = made(class_names=EVIL, conv10_pad=1)
    logits = paddle_logits(tensors, config, cv2.imread(str(CAT)))
    powers = np.exp(logits - logits.max())
    order = np.argsort(-logits)
    with browser.Browser(chromium.path, page_of(path, config)) as page:
        assert drop(page, CAT.read_bytes()) == 'took'
        text = "Array.from(document.querySelectorAll('#classes .%s'), (e) => e.textContent)"
        names, shares = page.evaluate(text % 'name'), page.evaluate(text % 'share')
        pixels = "$('view').getContext('2d').getImageData(0, 0, 227, 227).data.join()"
        page.evaluate("$('mapped').click()")
        before = page.evaluate(pixels)
        page.evaluate("document.querySelectorAll('#classes button')[1].click()")
        second = page.evaluate(pixels)
        page.evaluate("$('mapped').click()")
        plain = page.evaluate(pixels)
        title = page.evaluate('document.title')
    assert [' '.join(name.split()) for name in names] == [
        ' '.join(EVIL[number].replace(', ', ' ', 1).split()) for number in order
    ]
    assert shares == [f'{100 * powers[number] / powers.sum():.1f} %' for number in order]
    assert title == 'SqueezeNet'
    assert before != second
    rgba = cv2.cvtColor(cv2.imread(str(CAT)), cv2.COLOR_BGR2RGBA)
    assert plain == ','.join(map(str, rgba.ravel()))


def test_page_speaks_chinese_where_the_browser_does(chromium, made):
    path, _, config = made()
    with browser.Browser(chromium.path, page_of(path, config), '--accept-lang=zh-CN') as page:
        assert page.evaluate("document.querySelector('#choose').textContent") == '选择图片'
        page.evaluate("document.querySelector('#language').click()")
        assert page.evaluate("document.querySelector('#choose').textContent") == 'Choose a picture'


def test_what_is_no_picture_is_told(chromium, made):
    path, _, config = made(preprocessing=Preprocessing(resize='none', crop=228))
    with browser.Browser(chromium.path, page_of(path, config)) as page:
        assert drop(page, b'nothing', 'image/png') == 'noPicture'
        assert drop(page, b'nothing', 'text/plain') == 'noFile'
        assert drop(page, CAT.read_bytes()) == 'small'
        assert '228' in page.evaluate("document.querySelector('#status').textContent")


# --- the command ----------------------------------------------------------------------------------


def test_command_packs_what_is_not_packed(made, seeded_tensors, tmp_path, monkeypatch, capsys):
    """A script stands for compress.py, which takes a minute and has its own tests."""
    path, _, config = made()
    model_io.write_model(tmp_path / 'model', seeded_tensors('1.1', None, 3), config)
    script = tmp_path / 'compress.py'
    script.write_text(
        'import pathlib, shutil, sys\n'
        "pathlib.Path('asked').write_text(' '.join(sys.argv[1:]))\n"
        f'shutil.copy({str(path)!r}, sys.argv[sys.argv.index("--output") + 1])\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, 'COMPRESS', script)
    output = tmp_path / 'my.html'
    command = ['--model', str(tmp_path / 'model'), '--to', 'page', '--output', str(output)]
    assert export.main([*command, '--calibrate', 'my/train.txt']) == 0
    assert 'packed to 390,000 bytes first, by compress.py, on my' in capsys.readouterr().out
    asked = (tmp_path / 'asked').read_text()
    assert re.fullmatch(r'--model \S+ --size 390000 --output \S+ --train_list my/train.txt', asked)
    assert output.read_text(encoding='utf-8') == page_of(path, config)

    script.write_text('raise SystemExit(1)')
    assert export.main(command) == 1
    assert 'could not be packed' in capsys.readouterr().err


def test_command_writes_a_page_of_a_packed_file(made, tmp_path, capsys):
    path, _, _ = made(class_names=EVIL)
    output = tmp_path / 'my.html'
    arguments = ['--model', path, '--to', 'page', '--output', output, '--image', CAT]
    assert export.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr().out
    assert 'and Paddle agree' in printed or 'not checked' in printed
    assert f'{output.stat().st_size:,} bytes' in printed
