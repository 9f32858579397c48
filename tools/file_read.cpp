// read_file and list_dir.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

#include "tools/file.h"
#include "tools/results.h"
#include "tools/text.h"

namespace corvid::tools {
namespace {

// Lines A to B of a file of any size, in bounded memory, while the whole of it is counted and checked to be text.
class LineReader {
 public:
  // `limit` < 0: as many lines as fit in `bytes`.
  LineReader(int64_t offset, int64_t limit, bool numbers, int64_t bytes)
      : first_(offset),
        last_(limit < 0 ? INT64_MAX : offset - 1 + std::min(limit, INT64_MAX - offset)),
        numbers_(numbers),
        bytes_(bytes) {}

  void feed(std::string_view piece) {
    check_.feed(piece);
    size_ += static_cast<int64_t>(piece.size());
    while (!piece.empty()) {
      const size_t newline = piece.find('\n');
      const bool ends = newline != std::string_view::npos;
      const std::string_view part = piece.substr(0, ends ? newline + 1 : newline);
      if (!in_line_) {
        in_line_ = true;
        ++lines_;
      }
      if (is_wanted()) line_.append(part);
      piece.remove_prefix(part.size());
      if (ends) end_of_line();
    }
  }

  ToolResult result(const std::string& path) {
    if (in_line_) end_of_line();
    ToolResult out;
    out.detail["bytes"] = size_;
    out.detail["lines"] = lines_;
    if (!check_.is_text()) {
      out.text = "[binary file, " + std::to_string(size_) + " bytes]";
    } else if (size_ == 0) {
      out.text = "[empty file]";
    } else if (first_ > lines_) {
      return failed("\"offset\" " + std::to_string(first_) + " is past the end: " + one_line(path) + " has " +
                    std::to_string(lines_) + (lines_ == 1 ? " line" : " lines"));
    } else {
      out.text = std::move(text_);
      if (first_ > 1 || shown_ < lines_) {
        end_line(out.text);
        out.text +=
            "[lines " + std::to_string(first_) + "-" + std::to_string(shown_) + " of " + std::to_string(lines_) + "]";
      }
      out.text = without_final_newline(std::move(out.text));
    }
    return out;
  }

 private:
  bool is_wanted() const { return lines_ >= first_ && lines_ <= last_ && !full_; }

  void end_of_line() {
    in_line_ = false;
    if (!is_wanted()) return;
    std::string line = numbers_ ? std::to_string(lines_) + ": " + line_.text() : line_.text();
    line_.clear();
    // One line may be longer than all that may be shown: then its head and tail are, and nothing else.
    if (!text_.empty() && static_cast<int64_t>(text_.size() + line.size()) > bytes_) {
      full_ = true;
      return;
    }
    text_ += line;
    shown_ = lines_;
  }

  struct Line {
    int64_t limit;
    HeadTail kept{limit};
    void append(std::string_view part) { kept.append(part); }
    std::string text() const { return kept.text(); }
    void clear() {
      if (kept.total() > 0) kept = HeadTail(limit);
    }
  };

  int64_t first_, last_;
  bool numbers_;
  int64_t bytes_;
  TextCheck check_;
  Line line_{bytes_};
  std::string text_;
  int64_t size_ = 0, lines_ = 0, shown_ = 0;
  bool in_line_ = false, full_ = false;
};

class ReadFile : public SpecTool {
 public:
  ReadFile()
      : SpecTool(make_spec("read_file", "Read a text file",
                           {{"path", {{"type", "string"}}},
                            {"offset", {{"type", "integer"}}},
                            {"limit", {{"type", "integer"}}},
                            {"numbers", {{"type", "boolean"}}}},
                           {"path"})) {}

  ToolResult run(const Json& args, const Sandbox& box, std::stop_token stop) override {
    const std::string path = args["path"];
    const auto offset = static_cast<int64_t>(args.value("offset", 1.0));
    const auto limit = static_cast<int64_t>(args.value("limit", -1.0));
    if (offset < 1) return bad_args("\"offset\" must be at least 1, found " + args["offset"].dump());
    if (args.contains("limit") && limit < 1)
      return bad_args("\"limit\" must be at least 1, found " + args["limit"].dump());
    const Fd file(box.open_beneath(path, O_RDONLY));
    if (!file) return path_failure(errno, path);
    struct stat info {};
    if (::fstat(file.get(), &info) != 0) return path_failure(errno, path);
    if (S_ISDIR(info.st_mode)) return path_failure(EISDIR, path);
    if (!S_ISREG(info.st_mode)) return path_failure(ENXIO, path);
    LineReader reader(offset, limit, args.value("numbers", false), box.policy().output_limit_bytes);
    std::vector<char> piece(size_t{1} << 16);
    for (int64_t done = 0; done < box.policy().max_file_bytes;) {
      const ssize_t n = ::read(file.get(), piece.data(), piece.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return path_failure(errno, path);
      if (n == 0) return reader.result(path);
      if (stop.stop_requested()) return cancelled();
      reader.feed({piece.data(), static_cast<size_t>(n)});
      done += n;
    }
    return failed(one_line(path) + " is too large: more than " + std::to_string(box.policy().max_file_bytes) +
                  " bytes");
  }
};

constexpr int64_t kMaxEntries = 20'000;

class Listing {
 public:
  Listing(int64_t limit, const std::stop_token& stop) : out_(limit), stop_(stop) {}

  // `prefix`: "" or "name/inner/". Takes the descriptor. Returns 0 or an errno value.
  int add(Fd folder, const std::string& prefix, int64_t depth) {
    DIR* const opened = ::fdopendir(folder.get());
    if (opened == nullptr) return errno;
    folder.release();
    const std::unique_ptr<DIR, int (*)(DIR*)> list(opened, ::closedir);
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(opened)) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (static_cast<int64_t>(names.size()) >= kMaxEntries) {
        cut_ = true;
        break;
      }
      names.push_back(name);
    }
    std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
      return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
        return static_cast<unsigned char>(x) < static_cast<unsigned char>(y);
      });
    });
    for (const std::string& name : names) {
      if (count_ >= kMaxEntries) cut_ = true;
      if (cut_ || stop_.stop_requested()) break;
      add_entry(::dirfd(opened), prefix, name, depth);
    }
    return 0;
  }

  int64_t count() const { return count_; }
  std::string text() const {
    std::string out = out_.text();
    if (cut_) out += "[only the first " + std::to_string(count_) + " entries]\n";
    return out;
  }

 private:
  void add_entry(int folder, const std::string& prefix, const std::string& name, int64_t depth) {
    struct stat info {};
    if (::fstatat(folder, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return;  // gone meanwhile
    ++count_;
    std::string line = prefix + one_line(name);
    if (S_ISDIR(info.st_mode)) {
      out_.append(line + "/\n");
      if (depth <= 1) return;
      Fd inner(::openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (inner) add(std::move(inner), line + "/", depth - 1);
      return;
    }
    if (S_ISLNK(info.st_mode)) {
      char target[4096];
      const ssize_t n = ::readlinkat(folder, name.c_str(), target, sizeof target);
      line += " -> " + one_line({target, static_cast<size_t>(std::max<ssize_t>(n, 0))});
    } else if (S_ISREG(info.st_mode)) {
      line += " " + std::to_string(info.st_size);
    } else {
      line += S_ISFIFO(info.st_mode) ? " (pipe)" : S_ISSOCK(info.st_mode) ? " (socket)" : " (device)";
    }
    out_.append(line + "\n");
  }

  HeadTail out_;
  const std::stop_token& stop_;
  int64_t count_ = 0;
  bool cut_ = false;
};

class ListDir : public SpecTool {
 public:
  ListDir()
      : SpecTool(make_spec("list_dir", "List a folder",
                           {{"path", {{"type", "string"}}}, {"depth", {{"type", "integer"}}}}, Json::array())) {}

  ToolResult run(const Json& args, const Sandbox& box, std::stop_token stop) override {
    const std::string path = args.value("path", ".");
    const double depth = args.value("depth", 1.0);
    if (depth < 1) return bad_args("\"depth\" must be at least 1, found " + args["depth"].dump());
    Fd folder(box.open_beneath(path, O_RDONLY | O_DIRECTORY));
    if (!folder && errno == ENOTDIR) return failed(one_line(path) + " is not a folder");
    if (!folder) return path_failure(errno, path);
    Listing listing(box.policy().output_limit_bytes, stop);
    if (const int error = listing.add(std::move(folder), "", static_cast<int64_t>(std::min(depth, 64.0)))) {
      return path_failure(error, path);
    }
    if (stop.stop_requested()) return cancelled();
    ToolResult result;
    result.detail["entries"] = listing.count();
    result.text = listing.count() == 0 ? "[empty folder]" : without_final_newline(listing.text());
    return result;
  }
};

}  // namespace

std::unique_ptr<Tool> make_read_file() { return std::make_unique<ReadFile>(); }
std::unique_ptr<Tool> make_list_dir() { return std::make_unique<ListDir>(); }

}  // namespace corvid::tools
