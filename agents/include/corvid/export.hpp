// What every header of the library shares: how symbols are exported, and the version.
//
// Everything stands in the inline namespace corvid::v1: a host writes corvid::Session, its binary asks for
// corvid::v1::Session. A change that would break such a binary gets a new namespace.
#pragma once
#include <string_view>

#define CORVID_API __attribute__((visibility("default")))

namespace corvid {
inline namespace v1 {

// "0.1.0": of the library that was loaded, which may be newer than the headers.
CORVID_API std::string_view version() noexcept;

}  // namespace v1
}  // namespace corvid
