// Expects an exception and looks at what it says.
#pragma once
#include <gmock/gmock.h>

#include <exception>
#include <string>

namespace corvid::test {

// The message that `call` throws, or an empty text with a test failure when it throws nothing.
template <typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  ADD_FAILURE() << "no exception was thrown";
  return "";
}

}  // namespace corvid::test
