"""The 80 bands in which a voice stores spectra, and the way back to the bins of an FFT.

Separate because training (analysis into bands) and the vocoder (bands into bins) must agree on it exactly.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

BANDS: Final = 80
NYQUIST_HZ: Final = 12000.0


def band_centres_hz() -> NDArray[np.float64]:
    """Centres of the bands, equally far apart on the mel scale from 0 Hz to the Nyquist frequency; `(80,) float64`."""
    top = 2595.0 * np.log10(1.0 + NYQUIST_HZ / 700.0)
    return np.asarray(700.0 * (10.0 ** (np.linspace(0.0, top, BANDS) / 2595.0) - 1.0))


def bands_to_bins(fft_size: int) -> NDArray[np.float32]:
    """Matrix that interpolates bands linearly at the bins of a real FFT; `(80, fft_size // 2 + 1) float32`."""
    bins = np.linspace(0.0, NYQUIST_HZ, fft_size // 2 + 1)
    places = np.interp(bins, band_centres_hz(), np.arange(BANDS))
    low = np.floor(places).astype(int).clip(0, BANDS - 2)
    matrix = np.zeros((BANDS, len(bins)), np.float32)
    columns = np.arange(len(bins))
    matrix[low, columns] = 1.0 - (places - low)
    matrix[low + 1, columns] = places - low
    return matrix
