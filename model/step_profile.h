// Where the time of a decode step goes on a GPU.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace corvid::model {

struct StepProfile {
  struct Part {
    std::string name;
    double ms = 0;  // of all layers together, marks between the parts included
  };
  int64_t rows = 0;
  double ms = 0;  // of the whole step as it is replayed, without marks: the median
  std::vector<Part> parts;
};

}  // namespace corvid::model
