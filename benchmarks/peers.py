"""What people would use instead of infer.py, with the same weights: a network behind a feed.

python peers.py NETWORK FEED MODEL_DIRECTORY LIST OUTPUT.csv

MODEL_DIRECTORY holds model.safetensors, network.onnx and int8.onnx, which export.py writes.
NETWORK is onnxruntime, onnxruntime_int8, openvino, openvino_default (in the precision that it
chooses itself) or torch. FEED is cv2 or pil, a loop that reads 16 pictures, then runs the network
on every core; threads1 or threads4, where each core's thread reads 1 or 4 pictures with cv2 and
runs a network of its own on them; or dataloader, torch's, with PIL and a process per core.
"""

import csv
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import local

import numpy as np
import timing

MEAN = np.array([104, 117, 123], np.float32)  # BGR
HEADER = ['path', 'label', *(f'{kind}{rank}' for rank in range(5) for kind in ('class', 'prob'))]


# How pictures are read: float32 [3, 227, 227]


def cv2_crop(path):
    """Short side to 256, centre crop: bilinear without smoothing, like Caffe's and ours."""
    import cv2

    picture = cv2.imread(path)
    height, width = picture.shape[:2]
    scale = 256 / min(height, width)
    size = max(256, round(width * scale)), max(256, round(height * scale))
    return _finish(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR))


def pil_crop(path):
    """The same as torchvision does it with PIL, whose bilinear resize smooths."""
    from PIL import Image

    with Image.open(path) as image:
        image = image.convert('RGB')
    scale = 256 / min(image.size)
    size = [max(256, round(side * scale)) for side in image.size]
    return _finish(np.asarray(image.resize(size, Image.Resampling.BILINEAR))[..., ::-1])


def _finish(picture):
    top, left = (picture.shape[0] - 227) // 2, (picture.shape[1] - 227) // 2
    crop = picture[top : top + 227, left : left + 227].astype(np.float32) - MEAN
    return np.ascontiguousarray(crop.transpose(2, 0, 1))


# How the network is run: float32 [N, 3, 227, 227] -> probabilities [N, 1000]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def onnxruntime_network(directory, threads, file='network.onnx'):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path, providers = os.path.join(directory, file), ['CPUExecutionProvider']
    session = onnxruntime.InferenceSession(path, options, providers)
    return lambda images: softmax(session.run(None, {'data': images})[0])


def onnxruntime_int8_network(directory, threads):
    return onnxruntime_network(directory, threads, 'int8.onnx')


def openvino_default_network(directory, threads):
    return openvino_network(directory, threads, precision=None)


def openvino_network(directory, threads, precision='f32'):
    import openvino

    # Otherwise each network that has one thread is pinned to the same core.
    settings = {'INFERENCE_NUM_THREADS': threads, 'ENABLE_CPU_PINNING': False}
    if precision:
        settings['INFERENCE_PRECISION_HINT'] = precision
    path = os.path.join(directory, 'network.onnx')
    request = openvino.Core().compile_model(path, 'CPU', settings).create_infer_request()
    return lambda images: softmax(request.infer({0: images})[0])


def torch_network(directory, threads):
    import torch
    from torch_network import TorchSqueezeNet, channels_last

    torch.set_num_threads(threads)
    network = TorchSqueezeNet(os.path.join(directory, 'model.safetensors')).eval()

    @torch.inference_mode()
    def probabilities(images):
        logits = network(channels_last(torch.as_tensor(images)))
        return torch.softmax(logits, 1).numpy()

    return probabilities


NETWORKS = {
    'onnxruntime': onnxruntime_network,
    'onnxruntime_int8': onnxruntime_int8_network,
    'openvino': openvino_network,
    'openvino_default': openvino_default_network,
    'torch': torch_network,
}


def evaluate(network, feed, directory, paths):
    """Yield each batch's probabilities."""
    load, cores = NETWORKS[network], timing.cores()
    if feed.startswith('threads'):
        yield from in_threads(lambda: load(directory, 1), paths, cores, int(feed[-1]))
        return
    probabilities = load(directory, cores)
    if feed == 'dataloader':
        from torch_network import loader

        for images, _ in loader(paths, range(len(paths)), 16, cores, pil_crop):
            yield probabilities(images)
        return
    crop = {'cv2': cv2_crop, 'pil': pil_crop}[feed]
    for start in range(0, len(paths), 16):
        yield probabilities(np.stack([crop(path) for path in paths[start : start + 16]]))


def in_threads(make_network, paths, cores, batch):
    import cv2

    cv2.setNumThreads(1)
    networks = [make_network() for _ in range(cores)]  # in the threads OpenVINO never ends loading
    own = local()

    def work(start):
        if not hasattr(own, 'network'):
            own.network = networks.pop()
        return own.network(np.stack([cv2_crop(path) for path in paths[start : start + batch]]))

    with ThreadPoolExecutor(cores) as pool:
        yield from pool.map(work, range(0, len(paths), batch))


def main(network, feed, directory, list_path, output):
    with open(list_path, encoding='utf-8') as file:
        paths, labels = zip(*(line.rsplit(None, 1) for line in file))
    found = np.concatenate(list(evaluate(network, feed, directory, paths)))
    classes = np.argsort(-found, axis=1, kind='stable')[:, :5]
    with open(output, 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for path, label, numbers, row in zip(paths, labels, classes, found):
            writer.writerow([path, label, *(x for c in numbers for x in (c, f'{row[c]:.9g}'))])


if __name__ == '__main__':
    main(*sys.argv[1:])
