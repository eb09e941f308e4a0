"""Caffe's SGD in Paddle: learning-rate policies and the update rule (caffe/src/solvers).

Paddle's Momentum keeps v = m*v + g and moves by lr*v; Caffe keeps the rate inside the velocity,
v = m*v + lr*g, and moves by v. The two differ as soon as the rate changes.
"""

import math

import paddle

POLICIES = ('poly', 'step', 'cosine', 'fixed')


def learning_rate(policy, base, iteration, max_iter, power=1.0, step_size=None, gamma=0.1):
    """The rate of update `iteration` (from 0) of `max_iter`.

    poly: base*(1 - iteration/max_iter)^power, step: base*gamma^floor(iteration/step_size), fixed:
    base (Caffe: sgd_solver.cpp, GetLearningRate); cosine: half a cosine from base to 0.
    """
    if policy == 'poly':
        return base * (1.0 - iteration / max_iter) ** power
    if policy == 'step':
        return base * gamma ** (iteration // step_size)
    if policy == 'cosine':
        return base * 0.5 * (1.0 + math.cos(math.pi * iteration / max_iter))
    if policy == 'fixed':
        return base
    raise ValueError(f'policy is {policy!r}; it must be one of {", ".join(POLICIES)}')


class SGD:
    """Momentum SGD on `parameters` {name: Parameter}; weight decay reaches the biases too.

    `rule` 'caffe': v = m*v + lr*(g + wd*w); w -= v. `rule` 'paddle', as paddle.optimizer.Momentum:
    v = m*v + (g + wd*w); w -= lr*v. `velocity` {name: Tensor} is all the state there is.
    """

    RULES = ('caffe', 'paddle')

    def __init__(self, parameters, momentum=0.9, weight_decay=2e-4, rule='caffe'):
        if rule not in self.RULES:
            raise ValueError(f'rule is {rule!r}; it must be one of {", ".join(self.RULES)}')
        self.parameters = parameters
        self.momentum, self.weight_decay, self.rule = momentum, weight_decay, rule
        self.velocity = {name: paddle.zeros_like(value) for name, value in parameters.items()}

    @paddle.no_grad()
    def step(self, gradients, rate):
        """Move every parameter once; `gradients` {name: Tensor}, already divided by iter_size."""
        inside, outside = (rate, 1.0) if self.rule == 'caffe' else (1.0, rate)
        for name, parameter in self.parameters.items():
            change = gradients[name] + self.weight_decay * parameter
            velocity = self.momentum * self.velocity[name] + inside * change
            parameter.subtract_(outside * velocity)
            self.velocity[name] = velocity
