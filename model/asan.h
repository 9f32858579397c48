// CORVID_ASAN is defined in builds with AddressSanitizer.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define CORVID_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CORVID_ASAN 1
#endif
#endif
