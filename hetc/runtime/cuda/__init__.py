"""The executor `cuda`: launch plans on NVIDIA GPUs, through the driver alone."""

from hetc.runtime.cuda.device import DeviceInfo, device_info
from hetc.runtime.cuda.executor import CudaExecutor, cuda_executors
from hetc.runtime.cuda.prefill import CudaOptions

__all__ = ["CudaExecutor", "CudaOptions", "DeviceInfo", "cuda_executors", "device_info"]
