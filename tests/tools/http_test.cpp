// The HTTP tool, against a real server on the loopback.
#include "tools/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "tests/support/http_server.h"
#include "tests/support/temp_dir.h"
#include "tools/host_policy.h"
#include "tools/toolbox.h"

namespace corvid::tools {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string reply(const std::string& body, const std::string& status = "200 OK", const std::string& headers = "") {
  return "HTTP/1.1 " + status + "\r\nContent-Type: text/plain\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

class HttpToolTest : public testing::Test {
 protected:
  HttpToolTest() { policy.allow_hosts = {"127.0.0.1"}; }

  ToolResult call(const Json& args, std::stop_token stop = {}) const {
    return make_toolbox(Sandbox(dir.path(), policy)).run("http_request", args.dump(), stop);
  }
  ToolResult get(const std::string& path) const { return call({{"method", "GET"}, {"url", server.url(path)}}); }
  std::string denied(const std::string& url) const {
    const ToolResult result = call({{"method", "GET"}, {"url", url}});
    EXPECT_EQ(result.status, Status::denied) << url << " " << result.text;
    return result.text;
  }

  std::string answer(const test::HttpServer::Request& request) const {
    const std::string path =
        request.line.substr(request.line.find(' ') + 1, request.line.rfind(' ') - request.line.find(' ') - 1);
    if (path == "/hello") return reply("hello\n");
    if (path == "/empty") return "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n";
    if (path == "/missing") return reply("gone\n", "404 Not Found");
    if (path == "/big") return reply(std::string(100'000, 'b'));
    if (path == "/bytes") return reply(std::string("a\0b", 3));
    if (path == "/headers") return "HTTP/1.1 200 OK\r\nX-Long: " + std::string(100'000, 'h') + "\r\n\r\n";
    if (path == "/endless") return "HTTP/1.1 200 OK\r\n\r\n" + std::string(3'000'000, 'e');
    if (path == "/lie") return "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nshort";
    if (path == "/echo") return reply(request.line + "\n" + request.headers + "\n" + request.body);
    if (path == "/nowhere") return reply("gone\n", "301 Moved Permanently");
    if (path == "/silent") return "";
    if (path.starts_with("/to?")) return reply("moved\n", "302 Found", "Location: " + path.substr(4) + "\r\n");
    return reply("?", "500 What");
  }

  test::TempDir dir;
  Policy policy;
  test::HttpServer server{[this](const auto& request) { return answer(request); }};
};

TEST_F(HttpToolTest, TheReplyIsStatusHeadersAndBody) {
  const ToolResult hello = get("/hello");
  EXPECT_EQ(hello.status, Status::ok);
  EXPECT_EQ(hello.text, "HTTP 200\nContent-Type: text/plain\nContent-Length: 6\n\nhello");
  EXPECT_EQ(hello.detail["status"], 200);
  EXPECT_EQ(get("/empty").text, "HTTP 204\nX-A: 1\n");
  const ToolResult missing = get("/missing");
  EXPECT_EQ(missing.text, "HTTP 404\nContent-Type: text/plain\nContent-Length: 5\n\ngone");
  EXPECT_EQ(missing.status, Status::ok);
  EXPECT_EQ(call({{"method", "head"}, {"url", server.url("/hello")}}).text,
            "HTTP 200\nContent-Type: text/plain\nContent-Length: 6\n");
  EXPECT_THAT(get("/bytes").text, EndsWith("\n\n[binary body, 3 bytes]"));
}

TEST_F(HttpToolTest, ABodyIsSentWithTheTypeThatItHas) {
  const auto sent = [&](const Json& more) {
    Json args = {{"method", "POST"}, {"url", server.url("/echo")}};
    args.update(more);
    return call(args).text;
  };
  EXPECT_THAT(sent({{"body", R"({"a": 1})"}}),
              testing::AllOf(HasSubstr("POST /echo HTTP/1.1"), HasSubstr("Content-Type: application/json"),
                             EndsWith("\r\n\n{\"a\": 1}")));
  EXPECT_THAT(sent({{"body", "plain words"}}), HasSubstr("Content-Type: text/plain"));
  EXPECT_THAT(sent({{"body", "7"}}), HasSubstr("Content-Type: text/plain"));
  EXPECT_THAT(
      sent({{"body", "{}"}, {"headers", {{"content-type", "text/x"}, {"X-Word", "yes"}}}}),
      testing::AllOf(HasSubstr("content-type: text/x"), HasSubstr("X-Word: yes"), Not(HasSubstr("application/json"))));
}

TEST_F(HttpToolTest, ABodyIsSavedOnlyWhenTheRequestSucceeded) {
  EXPECT_EQ(call({{"method", "GET"}, {"url", server.url("/hello")}, {"save_to", "new/page.txt"}}).text,
            "HTTP 200\nContent-Type: text/plain\nContent-Length: 6\n\nsaved 6 bytes to new/page.txt");
  EXPECT_EQ(dir.read("new/page.txt"), "hello\n");
  const ToolResult missing = call({{"method", "GET"}, {"url", server.url("/missing")}, {"save_to", "no.txt"}});
  EXPECT_EQ(missing.text, "HTTP 404\nContent-Type: text/plain\nContent-Length: 5\n\ngone\n[not saved: status 404]");
  EXPECT_EQ(missing.status, Status::failed);
  EXPECT_FALSE(std::filesystem::exists(dir / "no.txt"));
  EXPECT_EQ(call({{"method", "GET"}, {"url", server.url("/hello")}, {"save_to", "../out"}}).text,
            "[denied: ../out is outside the working folder]");
  EXPECT_EQ(call({{"method", "GET"}, {"url", server.url("/hello")}, {"save_to", ".git/hooks/x"}}).status,
            Status::denied);
}

TEST_F(HttpToolTest, OnlyAllowedHostsAreReached) {
  const std::string port = std::to_string(server.port());
  EXPECT_EQ(denied("http://10.0.0.1/"),
            "[denied: host 10.0.0.1:80 is not allowed; allow it with --allow-host 10.0.0.1:80]");
  EXPECT_EQ(denied("https://example.com/"),
            "[denied: host example.com:443 is not allowed; allow it with --allow-host example.com:443]");
  EXPECT_EQ(denied("http://[::1]:" + port + "/"),
            "[denied: host [::1]:" + port + " is not allowed; allow it with --allow-host [::1]:" + port + "]");
  policy.allow_hosts = {"127.0.0.1:1"};
  EXPECT_THAT(denied(server.url("/hello")), HasSubstr("is not allowed"));
  policy.allow_hosts = {"127.0.0.1:" + port};
  EXPECT_EQ(get("/hello").status, Status::ok);
  policy.allow_hosts = {};
  EXPECT_THAT(denied(server.url("/hello")), HasSubstr("is not allowed"));
  // Other spellings of an address are that address, not a way round.
  for (const std::string host : {"2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1."}) {
    EXPECT_THAT(denied("http://" + host + ":" + port + "/hello"), HasSubstr("127.0.0.1:" + port + " is not allowed"))
        << host;
  }
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST_F(HttpToolTest, ANameMayNotLeadToThisMachineUnlessItIsLocalhost) {
  policy.allow_hosts = {"localhost"};
  const std::string local = "http://localhost:" + std::to_string(server.port()) + "/hello";
  EXPECT_EQ(call({{"method", "GET"}, {"url", local}}).status, Status::ok);
  EXPECT_EQ(get("/hello").status, Status::ok);
  // The loopback by its address allows the name, too, for the address is checked.
  policy.allow_hosts = {"127.0.0.1"};
  EXPECT_EQ(call({{"method", "GET"}, {"url", local}}).status, Status::ok);
}

TEST_F(HttpToolTest, ProxiesOfTheEnvironmentAreNotAsked) {
  setenv("http_proxy", "http://127.0.0.1:9", 1);
  setenv("ALL_PROXY", "http://127.0.0.1:9", 1);
  EXPECT_EQ(get("/hello").status, Status::ok);
  unsetenv("http_proxy"), unsetenv("ALL_PROXY");
}

TEST_F(HttpToolTest, StrangeUrlsAndHeadersAreRefused) {
  const auto text = [&](const std::string& url, const Json& headers = Json::object()) {
    return call({{"method", "GET"}, {"url", url}, {"headers", headers}}).text;
  };
  EXPECT_EQ(text("file:///etc/passwd"), "[error: only http and https are spoken, not file]");
  EXPECT_EQ(text("gopher://127.0.0.1/"), "[error: only http and https are spoken, not gopher]");
  EXPECT_EQ(text("http://user:word@127.0.0.1/"), "[error: a URL with a user or a password is not used]");
  EXPECT_EQ(text("http://127.0.0.1/a b"), "[error: the URL holds a blank, a control byte or a backslash]");
  EXPECT_EQ(text("http://127.0.0.1/\r\nX: y"), "[error: the URL holds a blank, a control byte or a backslash]");
  EXPECT_EQ(text("http://a%00.127.0.0.1/"), "[error: the URL cannot be read (want http://HOST/PATH)]");
  EXPECT_THAT(text(""), StartsWith("[error: "));
  EXPECT_EQ(text(server.url("/echo"), {{"X", "a\r\nY: b"}}),
            "[error: the header X holds a line end or another control byte]");
  EXPECT_EQ(text(server.url("/echo"), {{"A b", "c"}}), "[error: \"A b\" cannot be the name of a header]");
  EXPECT_EQ(text(server.url("/echo"), {{"Host", "evil"}}), "[error: the header Host cannot be set]");
  EXPECT_THAT(call({{"method", "GET /x"}, {"url", server.url("/echo")}}).text,
              StartsWith("[error: \"method\" must be one of GET,"));
  EXPECT_TRUE(server.requests().empty());
}

TEST_F(HttpToolTest, ARedirectIsShownAndNotFollowed) {
  for (const char* target : {"/hello", "http://169.254.169.254/latest/", "file:///etc/passwd"}) {
    const ToolResult moved = get(std::string("/to?") + target);
    EXPECT_EQ(moved.status, Status::ok);
    EXPECT_EQ(moved.text,
              "HTTP 302\nContent-Type: text/plain\nLocation: " + std::string(target) + "\nContent-Length: 6\n\nmoved");
  }
  EXPECT_EQ(get("/nowhere").text, "HTTP 301\nContent-Type: text/plain\nContent-Length: 5\n\ngone");
  const ToolResult unsaved = call({{"method", "GET"}, {"url", server.url("/to?/hello")}, {"save_to", "page.html"}});
  EXPECT_EQ(unsaved.status, Status::failed);
  EXPECT_THAT(unsaved.text, EndsWith("\n\nmoved\n[not saved: status 302]"));
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "page.html"));
}

TEST_F(HttpToolTest, EverythingIsBounded) {
  policy.output_limit_bytes = 1000;
  EXPECT_THAT(get("/big").text, HasSubstr("\n[... 99000 bytes cut ...]\n"));
  EXPECT_EQ(get("/headers").text, "[error: the reply's headers are larger than 65536 bytes]");
  policy.http_body_limit_bytes = 1'000'000;
  EXPECT_EQ(get("/endless").text, "[error: the reply's body is larger than 1000000 bytes]");
  EXPECT_THAT(get("/lie").text, StartsWith("[error: "));
  policy.http_timeout = std::chrono::milliseconds(200);
  const ToolResult silent = get("/silent");
  EXPECT_EQ(silent.text, "[timed out after 0.2 s]");
  EXPECT_EQ(silent.status, Status::timed_out);
}

TEST_F(HttpToolTest, ACancelledRequestEnds) {
  std::stop_source source;
  std::jthread stopper([&] {
    while (server.requests().empty()) std::this_thread::yield();
    source.request_stop();
  });
  policy.http_timeout = std::chrono::minutes(10);
  EXPECT_EQ(call({{"method", "GET"}, {"url", server.url("/silent")}}, source.get_token()).status, Status::cancelled);
}

TEST_F(HttpToolTest, AClosedPortIsSaidToBeSo) {
  EXPECT_EQ(call({{"method", "GET"}, {"url", "http://127.0.0.1:9/"}}).text,
            "[error: could not connect to 127.0.0.1:9: Connection refused]");
}

TEST(HostPolicy, KnowsWhichAddressesArePublic) {
  for (const char* text : {"93.184.216.34", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:2800:220:1::1",
                           "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"}) {
    EXPECT_TRUE(is_public(*parse_address(text))) << text;
  }
  for (const char* text : {"0.0.0.0",
                           "10.1.2.3",
                           "100.64.0.1",
                           "100.100.100.200",
                           "127.0.0.1",
                           "127.255.0.9",
                           "169.254.169.254",
                           "172.16.0.1",
                           "172.31.255.255",
                           "192.168.1.1",
                           "192.0.0.192",
                           "198.18.0.1",
                           "224.0.0.1",
                           "255.255.255.255",
                           "168.63.129.16",
                           "::",
                           "::1",
                           "::ffff:127.0.0.1",
                           "::ffff:10.0.0.1",
                           "::127.0.0.1",
                           "64:ff9b::7f00:1",
                           "64:ff9b:1::1",
                           "2002:7f00:1::",
                           "2001::1",
                           "2001:db8::1",
                           "fc00::1",
                           "fd00:ec2::254",
                           "fe80::1",
                           "fec0::1",
                           "ff02::1",
                           "100::1"}) {
    EXPECT_FALSE(is_public(*parse_address(text))) << text;
  }
}

TEST(HostPolicy, AnAllowedNameDoesNotOpenPrivateAddresses) {
  const HostPolicy policy({"Example.COM", "intranet:8080", "10.0.0.5", "[fd00::1]:443"});
  EXPECT_TRUE(policy.allows_name("example.com", 443));
  EXPECT_FALSE(policy.allows_name("www.example.com", 443));
  EXPECT_FALSE(policy.allows_name("intranet", 80));
  EXPECT_TRUE(policy.allows_name("intranet", 8080));
  EXPECT_TRUE(policy.allows_address("example.com", *parse_address("93.184.216.34"), 443));
  EXPECT_FALSE(policy.allows_address("example.com", *parse_address("127.0.0.1"), 443));
  EXPECT_FALSE(policy.allows_address("example.com", *parse_address("10.0.0.6"), 443));
  EXPECT_TRUE(policy.allows_address("example.com", *parse_address("10.0.0.5"), 443));
  EXPECT_TRUE(policy.allows_name("fd00::1", 443));
  EXPECT_FALSE(policy.allows_name("fd00::1", 80));
}

TEST(HostPolicy, NamesWhatItCannotRead) {
  for (const char* bad : {"", "http://a", "a:b", "a:0", "a:70000", "a b", "[::1", "1:2:3", "*.example.com"}) {
    EXPECT_THROW(HostPolicy({bad}), std::invalid_argument) << bad;
  }
}

}  // namespace
}  // namespace corvid::tools
