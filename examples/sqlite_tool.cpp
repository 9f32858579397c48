// A tool of the host that looks into the host's own database:  sqlite_tool FOLDER [ARTICLE]
//
// The model that ships has learnt six tools and no others. So the host answers one of those itself: http_request is
// replaced by a function that knows one made-up server, http://127.0.0.1:8042/stock/ARTICLE, and nothing goes over a
// network. A larger model also calls a tool of a name of its own, such as `stock` below, which here is called by hand.
#include <sqlite3.h>

#include <corvid/corvid.hpp>
#include <iostream>
#include <memory>
#include <mutex>

namespace {

// The host's database. Tools may be called from several threads at once, so the connection has a lock.
class Shop {
 public:
  Shop() {
    sqlite3_open(":memory:", &db_);
    sqlite3_exec(db_,
                 "CREATE TABLE stock (article TEXT PRIMARY KEY, pieces INTEGER, shelf TEXT);"
                 "INSERT INTO stock VALUES ('bolts', 420, 'B7'), ('washers', 1300, 'B9'), ('hinges', 36, 'D2');",
                 nullptr, nullptr, nullptr);
  }
  Shop(const Shop&) = delete;
  ~Shop() { sqlite3_close(db_); }

  // The row as JSON; empty when there is no such article.
  std::string find(const std::string& article) {
    const std::lock_guard lock(mutex_);
    sqlite3_stmt* query = nullptr;
    sqlite3_prepare_v2(db_,
                       "SELECT '{\"article\": ' || json_quote(article) || ', \"pieces\": ' || pieces ||"
                       " ', \"shelf\": ' || json_quote(shelf) || '}' FROM stock WHERE article = ?",
                       -1, &query, nullptr);
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> owner(query, sqlite3_finalize);
    sqlite3_bind_text(query, 1, article.c_str(), -1, SQLITE_TRANSIENT);
    if (sqlite3_step(query) != SQLITE_ROW) return "";
    return reinterpret_cast<const char*>(sqlite3_column_text(query, 0));
  }

 private:
  std::mutex mutex_;
  sqlite3* db_ = nullptr;
};

// As the real http_request answers.
corvid::ToolResult answer(Shop& shop, const corvid::ToolRequest& request) {
  constexpr std::string_view kStock = "http://127.0.0.1:8042/stock/";
  const std::string url = request.text("url").value_or("");
  if (!url.starts_with(kStock))
    return {corvid::ToolStatus::denied, "[denied: only " + std::string(kStock) + "ARTICLE]"};
  const std::string row = shop.find(url.substr(kStock.size()));
  if (row.empty()) return "HTTP 404\ncontent-type: text/plain\n\nno such article";
  return "HTTP 200\ncontent-type: application/json\n\n" + row;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: sqlite_tool FOLDER [ARTICLE]\n";
    return 2;
  }
  const std::string article = argc > 2 ? argv[2] : "bolts";
  try {
    Shop shop;
    const corvid::Engine engine(corvid::Model::shipped());
    const corvid::Store store("agent.db");

    corvid::Agent agent;
    agent.replace_tool("http_request", [&](const corvid::ToolRequest& request) { return answer(shop, request); });
    corvid::Session session = corvid::Session::start(engine, store, agent, {.workdir = argv[1]});
    const corvid::Result result =
        session.run("Ask http://127.0.0.1:8042/stock/" + article + " and tell me the pieces.");
    for (const corvid::ToolUse& use : result.tool_calls) std::cout << use.call.arguments << "\n";
    std::cout << result.answer << "\n";

    corvid::Agent clerk;
    clerk.add_tool({"stock", "What the shop has of an article",
                    R"({"type":"object","properties":{"article":{"type":"string"}},"required":["article"]})",
                    [&](const corvid::ToolRequest& request) -> corvid::ToolResult {
                      const std::string row = shop.find(*request.text("article"));
                      if (row.empty()) return {corvid::ToolStatus::failed, "[error: no such article]"};
                      return row;
                    }});
    corvid::Session desk = corvid::Session::start(engine, store, clerk, {.workdir = argv[1]});
    std::cout << desk.call_tool("stock", R"({"article":")" + article + R"("})").text << "\n";
    return result.status == corvid::Status::completed ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "sqlite_tool: " << error.what() << "\n";
    return 1;
  }
}
