"""The same network in torch, as one would write it there: channels_last, ReLU in place."""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from network import architecture


class TorchSqueezeNet(nn.Module):
    """Logits of float32 pictures [N, 3, 227, 227]; `parameters` named as in model.safetensors."""

    def __init__(self, path):
        super().__init__()
        self.tensors = {
            name: nn.Parameter(channels_last(value)) for name, value in load_file(path).items()
        }
        self.rows = architecture.stages('1.1', None, len(self.tensors['conv10.bias']))
        self.dropout = 0.0

    def parameters(self, recurse=True):
        return iter(self.tensors.values())

    def conv(self, name, x, stride=1, padding=0):
        weight, bias = self.tensors[f'{name}.weight'], self.tensors[f'{name}.bias']
        return F.relu(F.conv2d(x, weight, bias, stride, padding), inplace=True)

    def forward(self, x):
        for row in self.rows:
            if isinstance(row, architecture.MaxPool):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            elif isinstance(row, architecture.Fire):
                squeezed = self.conv(f'{row.name}.squeeze1x1', x)
                small = self.conv(f'{row.name}.expand1x1', squeezed)
                x = torch.cat([small, self.conv(f'{row.name}.expand3x3', squeezed, padding=1)], 1)
            else:
                if row.name == 'conv10':
                    x = F.dropout(x, self.dropout, self.training)
                x = self.conv(row.name, x, row.stride)
        return x.mean((2, 3))


def channels_last(value):
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value


def loader(paths, labels, batch_size, workers, crop):
    """torch's DataLoader of (`crop(path)` as a tensor, label), in order."""

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, i):
            return torch.from_numpy(crop(paths[i])), int(labels[i])

    return torch.utils.data.DataLoader(Pictures(), batch_size=batch_size, num_workers=workers)
