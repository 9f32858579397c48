// write_file and edit_file.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <map>
#include <string>

#include "tools/file.h"
#include "tools/results.h"
#include "tools/text.h"

namespace corvid::tools {
namespace {

constexpr int64_t kMaxEditBytes = 16 * 1024 * 1024;  // of a file to edit: it is held in memory twice
constexpr size_t kMaxLineShown = 200;

bool write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    content.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

using Pairs = std::map<std::pair<char, char>, int>;

Pairs pairs_of(std::string_view text) {
  Pairs out;
  for (size_t i = 1; i < text.size(); ++i) ++out[{text[i - 1], text[i]}];
  return out;
}

std::string_view trimmed(std::string_view line) {
  const size_t start = line.find_first_not_of(" \t\r");
  if (start == std::string_view::npos) return {};
  return line.substr(start, line.find_last_not_of(" \t\r") - start + 1);
}

template <typename Visit>
void each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    visit(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

class WriteFile : public SpecTool {
 public:
  WriteFile()
      : SpecTool(make_spec("write_file", "Write a file, replacing what it held",
                           {{"path", {{"type", "string"}}}, {"content", {{"type", "string"}}}}, {"path", "content"})) {}

  ToolResult run(const Json& args, const Sandbox& box, std::stop_token) override {
    const std::string path = args["path"];
    const std::string& content = args["content"].get_ref<const std::string&>();
    if (const int error = replace_file(box.paths(), path, content)) return path_failure(error, path);
    ToolResult result;
    result.text = "wrote " + std::to_string(content.size()) + " bytes to " + one_line(path);
    result.detail["bytes"] = content.size();
    return result;
  }
};

class EditFile : public SpecTool {
 public:
  EditFile()
      : SpecTool(make_spec("edit_file", "Replace exact text in a file",
                           {{"path", {{"type", "string"}}},
                            {"old", {{"type", "string"}}},
                            {"new", {{"type", "string"}}},
                            {"all", {{"type", "boolean"}}}},
                           {"path", "old", "new"})) {}

  ToolResult run(const Json& args, const Sandbox& box, std::stop_token) override {
    const std::string path = args["path"], name = one_line(path);
    const std::string &wanted = args["old"].get_ref<const std::string&>(),
                      &replacement = args["new"].get_ref<const std::string&>();
    if (wanted.empty()) return bad_args("\"old\" must not be empty");
    if (wanted == replacement) return bad_args("\"old\" and \"new\" are the same");
    std::string text;
    if (const int error = read_text(box, path, text)) {
      return error == EFBIG
                 ? failed(name + " is too large to edit: more than " + std::to_string(kMaxEditBytes) + " bytes")
                 : path_failure(error, path);
    }
    if (!is_text(text)) return failed(name + " is a binary file");
    std::string edited;
    int64_t count = 0;
    size_t from = 0;
    for (size_t at; (at = text.find(wanted, from)) != std::string::npos; from = at + wanted.size()) {
      edited.append(text, from, at - from).append(replacement);
      ++count;
    }
    edited.append(text, from);
    if (count == 0) {
      const std::string line = nearest_line(text, wanted);
      return failed("the old text is not in " + name +
                    (line.empty() ? std::string("; no line is like it") : "; the nearest line is: " + line));
    }
    if (count > 1 && !args.value("all", false)) {
      return failed("the old text stands " + std::to_string(count) + " times in " + name +
                    "; give more of it, or set all");
    }
    if (const int error = replace_file(box.paths(), path, edited)) return path_failure(error, path);
    ToolResult result;
    result.text = "replaced " + std::to_string(count) + (count == 1 ? " time in " : " times in ") + name;
    result.detail["replaced"] = count;
    return result;
  }

 private:
  static int read_text(const Sandbox& box, const std::string& path, std::string& text) {
    const Fd file(box.open_beneath(path, O_RDONLY));
    struct stat info {};
    if (!file || ::fstat(file.get(), &info) != 0) return errno;
    if (S_ISDIR(info.st_mode)) return EISDIR;
    if (!S_ISREG(info.st_mode)) return ENXIO;
    if (info.st_size > kMaxEditBytes) return EFBIG;
    text.resize(static_cast<size_t>(kMaxEditBytes) + 1);
    size_t size = 0;
    while (size < text.size()) {
      const ssize_t n = ::read(file.get(), text.data() + size, text.size() - size);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      if (n == 0) break;
      size += static_cast<size_t>(n);
    }
    if (size == text.size()) return EFBIG;  // it grew
    text.resize(size);
    return 0;
  }
};

}  // namespace

int replace_file(const PathRules& rules, const std::filesystem::path& path, std::string_view content) {
  int error = 0;
  const PathRules::Place place = rules.place(path, /*make_parents=*/true, error);
  if (error != 0) return error;
  // A file that may not be written is not replaced either, although the folder would allow it.
  if (place.exists && ::faccessat(place.folder.get(), place.name.c_str(), W_OK, AT_EACCESS) != 0) return errno;
  static std::atomic<unsigned> serial{0};
  std::string temporary;
  Fd file;
  do {
    temporary = ".corvid-" + std::to_string(::getpid()) + "-" + std::to_string(++serial) + ".tmp";
    file.reset(
        ::openat(place.folder.get(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  } while (!file && errno == EEXIST);
  if (!file) return errno;
  struct stat before {};
  bool ok = write_all(file.get(), content);
  if (ok && place.exists && ::fstatat(place.folder.get(), place.name.c_str(), &before, AT_SYMLINK_NOFOLLOW) == 0) {
    // The owner can only be kept by root; for anyone else the file becomes theirs, as with any editor.
    (void)!::fchown(file.get(), before.st_uid, before.st_gid);
    ok = ::fchmod(file.get(), place.mode & 0777) == 0;
  }
  ok = ok && ::renameat(place.folder.get(), temporary.c_str(), place.folder.get(), place.name.c_str()) == 0;
  if (ok) return 0;
  error = errno;
  ::unlinkat(place.folder.get(), temporary.c_str(), 0);
  return error;
}

std::string nearest_line(std::string_view text, std::string_view wanted) {
  std::string_view first;  // of the wanted text's lines, the first that says something
  each_line(wanted, [&](std::string_view line) {
    if (first.empty()) first = trimmed(line);
  });
  const Pairs want = pairs_of(first);
  double best = 0;
  std::string_view found;
  each_line(text, [&](std::string_view line) {
    const std::string_view candidate = trimmed(line).substr(0, 1000);
    int common = 0;
    for (const auto& [pair, count] : pairs_of(candidate)) {
      if (const auto other = want.find(pair); other != want.end()) common += std::min(count, other->second);
    }
    const double score = 2.0 * common / std::max<double>(1, static_cast<double>(candidate.size() + first.size()) - 2);
    if (score > best) {
      best = score;
      found = trimmed(line);
    }
  });
  size_t size = std::min(found.size(), kMaxLineShown);
  while (size > 0 && size < found.size() && (static_cast<unsigned char>(found[size]) & 0xc0) == 0x80) --size;
  return std::string(found.substr(0, size));
}

std::unique_ptr<Tool> make_write_file() { return std::make_unique<WriteFile>(); }
std::unique_ptr<Tool> make_edit_file() { return std::make_unique<EditFile>(); }

}  // namespace corvid::tools
