"""Caffe's SGD in Paddle: learning-rate policies and the update rule (caffe/src/solvers).

Paddle's Momentum keeps v = m*v + g and moves by lr*v; Caffe keeps the rate inside the velocity,
v = m*v + lr*g, and moves by v. The two differ as soon as the rate changes.
"""

import math
from dataclasses import dataclass
from typing import Optional

import paddle

POLICIES = ('poly', 'step', 'cosine', 'fixed')


@dataclass(frozen=True)
class Schedule:
    """The learning rate of the updates from `start` to `max_iter`; n counts from `start`.

    poly: base*(1 - n/max)^power, step: base*gamma^floor(n/step_size), fixed: base (Caffe:
    sgd_solver.cpp, GetLearningRate); cosine: half a cosine from base to 0. Over the first
    `warmup` (a share of all) it rises to that from 0, in a straight line.
    """

    policy: str
    base: float
    max_iter: int
    power: float = 1.0
    step_size: Optional[int] = None
    gamma: float = 0.1
    warmup: float = 0.0
    start: int = 0

    def __post_init__(self):
        if self.policy not in POLICIES:
            known = ', '.join(POLICIES)
            raise ValueError(f'policy is {self.policy!r}; it must be one of {known}')

    def rate(self, iteration):
        """The rate of update `iteration` (from 0)."""
        n, count = iteration - self.start, self.max_iter - self.start
        rise = min(1.0, (n + 1) / (self.warmup * count)) if self.warmup else 1.0
        return rise * self._of_policy(n, count)

    def _of_policy(self, n, count):
        if self.policy == 'poly':
            return self.base * (1.0 - n / count) ** self.power
        if self.policy == 'step':
            return self.base * self.gamma ** (n // self.step_size)
        if self.policy == 'cosine':
            return self.base * 0.5 * (1.0 + math.cos(math.pi * n / count))
        return self.base


class FlatParameters:
    """Parameters {name: Parameter} as one vector: each becomes a view of its part of `vector`.

    What is done to the vector is done to all of them at once, by one kernel.
    """

    def __init__(self, parameters):
        self.parameters = parameters
        self.vector = paddle.concat([value.detach().flatten() for value in parameters.values()])
        for value, part in zip(parameters.values(), self.parts(self.vector)):
            value.data = part
            value.stop_gradient = False  # before Paddle 3.3 it takes the part's

    def parts(self, vector):
        """A view of `vector` for each parameter, in its shape."""
        start, parts = 0, []
        for value in self.parameters.values():
            parts.append(vector[start : start + value.size].reshape(value.shape))
            start += value.size
        return parts

    def join(self, arrays):
        """The vector of {name: array}."""
        flat = [paddle.to_tensor(arrays[name]).flatten() for name in self.parameters]
        return paddle.concat(flat)

    def arrays(self, vector):
        """{name: array} of the parts of `vector`."""
        return dict(zip(self.parameters, (part.numpy() for part in self.parts(vector))))

    def take_gradient(self):
        """The gradients as one vector; they start again at zero."""
        gradient = paddle.concat([value.grad.flatten() for value in self.parameters.values()])
        self.clear_gradient()
        return gradient

    def clear_gradient(self):
        for value in self.parameters.values():
            value.clear_gradient()


class SGD:
    """Momentum SGD on `parameters` {name: Parameter}; weight decay reaches the biases too.

    `rule` 'caffe': v = m*v + lr*(g + wd*w); w -= v. `rule` 'paddle', as paddle.optimizer.Momentum:
    v = m*v + (g + wd*w); w -= lr*v. `moments` {'velocity': a vector as `flat.vector`} is the state.
    """

    RULES = ('caffe', 'paddle')

    def __init__(self, parameters, momentum=0.9, weight_decay=2e-4, rule='caffe'):
        if rule not in self.RULES:
            raise ValueError(f'rule is {rule!r}; it must be one of {", ".join(self.RULES)}')
        self.momentum, self.weight_decay, self.rule = momentum, weight_decay, rule
        self.flat = FlatParameters(parameters)
        self.moments = {'velocity': paddle.zeros_like(self.flat.vector)}

    @paddle.no_grad()
    def step(self, gradient, rate, _=None):
        """Move every parameter once; `gradient`: a vector, already divided by iter_size."""
        inside, outside = (rate, 1.0) if self.rule == 'caffe' else (1.0, rate)
        change = gradient + self.weight_decay * self.flat.vector
        velocity = self.momentum * self.moments['velocity'] + inside * change
        self.moments['velocity'] = velocity
        self.flat.vector.subtract_(outside * velocity)


class AdamW:
    """Adam with decoupled decay (Loshchilov and Hutter, arXiv:1711.05101) on all of `parameters`.

    `moments`: 'mean' and 'square' of the gradients, vectors as `flat.vector`.
    """

    def __init__(self, parameters, momentum=0.9, weight_decay=2e-4, second=0.99, epsilon=1e-8):
        self.momentum, self.weight_decay = momentum, weight_decay
        self.second, self.epsilon = second, epsilon
        self.flat = FlatParameters(parameters)
        self.moments = {name: paddle.zeros_like(self.flat.vector) for name in ('mean', 'square')}

    @paddle.no_grad()
    def step(self, gradient, rate, iteration):
        """As SGD.step; `iteration` counts from 0, for the moments' start at zero."""
        first, second, count = self.momentum, self.second, iteration + 1
        mean = first * self.moments['mean'] + (1 - first) * gradient
        square = second * self.moments['square'] + (1 - second) * gradient * gradient
        self.moments = {'mean': mean, 'square': square}
        scale = (square / (1 - second**count)).sqrt() + self.epsilon
        change = mean / (1 - first**count) / scale + self.weight_decay * self.flat.vector
        self.flat.vector.subtract_(rate * change)


SOLVERS = (*SGD.RULES, 'adamw')


def make_solver(name, parameters, momentum, weight_decay):
    """The solver called `name` (one of SOLVERS) for `parameters` {name: Parameter}."""
    if name == 'adamw':
        return AdamW(parameters, momentum, weight_decay)
    return SGD(parameters, momentum, weight_decay, name)
