// Which variables reach a command.
#include "tools/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace corvid::tools {
namespace {

TEST(Environment, SecretsAreKnownByName) {
  for (const char* name :
       {"GITHUB_TOKEN", "OPENAI_API_KEY", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "AWS_PROFILE", "SSH_AUTH_SOCK",
        "GOOGLE_APPLICATION_CREDENTIALS", "SESSION_ID", "COOKIE_JAR", "GITLAB_PAT", "npm_config__authToken", "APIKEY",
        "STRIPE_SECRET", "KEY", "my_key", "DOCKER_AUTH_CONFIG", "SMTP_PASS", "GPG_PASSPHRASE"}) {
    EXPECT_TRUE(is_secret_name(name)) << name;
  }
  for (const char* name :
       {"GREETING", "CITY", "KEYBOARD", "TOKENIZERS_PARALLELISM", "MONKEY", "AUTHOR", "GIT_AUTHOR_NAME", "PATH", "PWD",
        "PATTERN", "LANG", "HOME", "USER", "EDITOR", "COLORTERM", "SPINE", "COMPASS", "PATIENT", "BYPASS"}) {
    EXPECT_FALSE(is_secret_name(name)) << name;
  }
}

TEST(Environment, SecretsAreKnownByForm) {
  for (const char* value :
       {"ghp_0123456789abcdefghijABCDEFGHIJ012345", "sk-proj-abcdefghijklmnop0123", "AKIAIOSFODNN7EXAMPLE",
        "xoxb-123456789012-abc", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "postgres://ann:hunter2@db/x", "Bearer abcdefghijklmnopqrstuvwxyz",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "x=glpat-abcdefghij0123456789",
        "q7Rk2Zp9Xv4Tn8Bw3Yc6Lm1Dh5Gj0Fs"}) {
    EXPECT_TRUE(is_secret_value(value)) << value;
  }
  for (const char* value :
       {"hello world", "Paris", "", "1", "en_US.UTF-8", "sk-SK", "/usr/local/share/some/very/long/path/to/a/file.txt",
        "http://example.com/a?b=c", "ThisIsALongCamelCaseValueWithoutDigits", "2026-11-22T22:29:27+0000",
        "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-bash/bin", "0000000000000000000000000000000000000000",
        "a@b.example", "rs=0:di=01;34:ln=01;36:mh=00:pi=40;33"}) {
    EXPECT_FALSE(is_secret_value(value)) << value;
  }
}

TEST(Environment, PoisonIsKnownByName) {
  for (const char* name : {"LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "BASH_FUNC_ls%%", "PYTHONSTARTUP",
                           "PYTHONPATH", "GIT_DIR", "GIT_SSH_COMMAND", "NODE_OPTIONS", "PROMPT_COMMAND", "https_proxy",
                           "HTTP_PROXY", "no_proxy", "IFS", "PERL5OPT"}) {
    EXPECT_TRUE(is_poison(name)) << name;
  }
  for (const char* name : {"GREETING", "ENVIRONMENT", "GIT_AUTHOR_NAME", "GIT_COMMITTER_EMAIL", "PYTHONUNBUFFERED",
                           "LANG", "TERM", "HOME"}) {
    EXPECT_FALSE(is_poison(name)) << name;
  }
}

TEST(Environment, PathHasOnlyWhatACommandCannotChange) {
  EXPECT_EQ(sane_path("/project/bin:.::bin:/usr/games:/home/ann/bin:/usr/bin:/data/tools:/usr/../tmp", {"/data"},
                      {"/project"}),
            "/usr/games:/usr/bin:/data/tools:/usr/local/bin:/bin");
  EXPECT_EQ(sane_path("", {}, {}), "/usr/local/bin:/usr/bin:/bin");
}

TEST(Environment, WhatIsHeldBackIsReportedAndMayBePassed) {
  setenv("CORVID_TEST_TOKEN", "abc", 1);
  setenv("CORVID_TEST_CITY", "Paris", 1);
  EnvReport report = sift_environment("/project", {});
  EXPECT_THAT(report.held_back, testing::Contains("CORVID_TEST_TOKEN"));
  EXPECT_THAT(report.passed, testing::Contains("CORVID_TEST_CITY=Paris"));
  EXPECT_THAT(report.passed, testing::Contains("PWD=/project"));
  Policy policy;
  policy.pass_env = {"CORVID_TEST_TOKEN"};
  report = sift_environment("/project", policy);
  EXPECT_THAT(report.passed, testing::Contains("CORVID_TEST_TOKEN=abc"));
  unsetenv("CORVID_TEST_TOKEN"), unsetenv("CORVID_TEST_CITY");
}

TEST(Environment, AFolderHoldsWhatIsBeneathItAndNotItsNeighbours) {
  EXPECT_TRUE(lies_within("/ws/a", "/ws"));
  EXPECT_TRUE(lies_within("/ws", "/ws/"));
  EXPECT_TRUE(lies_within("/ws", "/"));
  EXPECT_FALSE(lies_within("/ws-evil", "/ws"));
  EXPECT_FALSE(lies_within("/", "/ws"));
}

}  // namespace
}  // namespace corvid::tools
