"""SimAM: a gate for every single value, by how far it stands out from its channel; no parameters.

Paper:   Yang et al., "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", 2021.
         https://proceedings.mlr.press/v139/yang21o.html
Follows: equations 5 and 6, lambda = 1e-4, the variance with h*w - 1 as in the official code.
Differs: a map of one pixel has variance 0 (official: 0 / 0). In our ResNets it stands where every attention stands,
         after the last norm of the branch; the official CIFAR networks have it before that norm.
Checked: logits and gradients in ResNet-20 against the official class (ZjjConan/SimAM), recorded; and a second
         implementation, which divides by the energy of equation 5.
"""

from torch import Tensor, nn


class SimAM(nn.Module):
    """Multiply each value by the sigmoid of its inverse energy, 1/2 at the mean of its channel.

    Args:
        width: channels; any, nothing here has as many.
        e_lambda: the paper's lambda, added to the variance.
    """

    def __init__(self, width: int, *, e_lambda: float = 1e-4) -> None:
        super().__init__()
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        squares = (x - x.mean((2, 3), keepdim=True)).square()
        variance = squares.sum((2, 3), keepdim=True) / max(x.shape[2] * x.shape[3] - 1, 1)
        return x * (squares / (4 * (variance + self.e_lambda)) + 0.5).sigmoid()

    def extra_repr(self) -> str:
        """Show lambda where the network is printed."""
        return f"e_lambda={self.e_lambda:g}"
