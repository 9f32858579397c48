#include "agents/workspace.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/temp_dir.h"

namespace corvid::agents {
namespace {

namespace fs = std::filesystem;

// Permissions bind nobody who is root.
void become_nobody() {
  if (geteuid() != 0) return;
  if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) _exit(98);
}

// The folder of a task that works on a copy of `source`.
void prepare_copy(const test::TempDir& dir, const fs::path& folder, const fs::path& store = {}) {
  Task task;
  task.workdir.kind = Workdir::Kind::copy;
  task.workdir.source = Template::parse("source");
  Workflow workflow;
  workflow.folder = dir.path();
  const agents::Run run{&task, 0, Json::object(), Json::object(), {}, "k"};
  prepare_workspace(workflow, run, folder, {}, store);
}

TEST(Workspace, IsMadeAnewAlsoWhereFoldersAreReadOnly) {
  const test::TempDir dir;
  fs::permissions(dir.path(), fs::perms::all);
  dir.write("source/inner/f.txt", "from the source");
  fs::permissions(dir / "source/inner", fs::perms(0555));
  fs::permissions(dir / "source", fs::perms(0555));
  test::Child child([&] {
    become_nobody();
    const fs::path folder = dir / "out/work";
    prepare_copy(dir, folder);
    // The copy can be written to; then an agent locks it.
    std::ofstream(folder / "inner/f.txt") << "changed";
    if (dir.read("out/work/inner/f.txt") != "changed") return 1;
    chmod((folder / "inner").c_str(), 0555);
    chmod(folder.c_str(), 0);
    prepare_copy(dir, folder);
    return dir.read("out/work/inner/f.txt") == "from the source" ? 0 : 2;
  });
  EXPECT_EQ(child.wait(), 0);
  fs::permissions(dir / "source", fs::perms::all);
  fs::permissions(dir / "source/inner", fs::perms::all);
}

TEST(Workspace, HasNothingOfTheStore) {
  const test::TempDir dir;
  dir.write("source/f.txt", "from the source");
  const std::string before = hash_of_folder(dir / "source");
  for (const char* file : {"s.db", "s.db-wal", "s.db-shm"}) dir.write(std::string("source/") + file, "told");
  const fs::path store = dir / "source/s.db";
  EXPECT_EQ(hash_of_folder(dir / "source", store), before);
  EXPECT_NE(hash_of_folder(dir / "source"), before);
  prepare_copy(dir, dir / "out/work", store);
  EXPECT_EQ(hash_of_folder(dir / "out/work"), before);
}

}  // namespace
}  // namespace corvid::agents
