#pragma once
#include "kernels/device_matrix/device_matrix.h"

namespace corvid::kernels {

// Calls use.operator()<format>().
template <class Use>
auto with_format(DeviceFormat format, Use&& use) {
  switch (format) {
    case DeviceFormat::q8_0:
      return use.template operator()<DeviceFormat::q8_0>();
    case DeviceFormat::q4_k:
      return use.template operator()<DeviceFormat::q4_k>();
    case DeviceFormat::q6_k:
      return use.template operator()<DeviceFormat::q6_k>();
    case DeviceFormat::f8_e4m3:
      return use.template operator()<DeviceFormat::f8_e4m3>();
    default:
      return use.template operator()<DeviceFormat::bf16>();
  }
}

}  // namespace corvid::kernels
