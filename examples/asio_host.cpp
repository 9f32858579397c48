// A host with Boost.Asio:  asio_host FOLDER PROMPT...
//
// Every prompt is a coroutine of its own with an agent of its own; all of them run on the host's one thread, while the
// agents work together on one engine.
// clang-format off
#include <utility>  // which Boost 1.74 forgets
// clang-format on
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <corvid/asio.hpp>
#include <corvid/corvid.hpp>
#include <iostream>

namespace asio = boost::asio;

namespace {

asio::awaitable<void> work(asio::io_context& io, corvid::Session session, std::string prompt) {
  const corvid::Result result = co_await corvid::async_run(session, prompt, {}, io.get_executor(), asio::use_awaitable);
  std::cout << prompt << " " << (result.error.empty() ? result.answer : result.error) << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: asio_host FOLDER PROMPT...\n";
    return 2;
  }
  try {
    asio::io_context io;
    const corvid::Engine engine(corvid::Model::shipped());
    const corvid::Store store("agent.db");
    for (int i = 2; i < argc; ++i) {
      corvid::Session session = corvid::Session::start(engine, store, corvid::Agent(), {.workdir = argv[1]});
      asio::co_spawn(io, work(io, std::move(session), argv[i]), [](std::exception_ptr failure) {
        if (failure) std::rethrow_exception(failure);  // out of io.run()
      });
    }
    io.run();
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "asio_host: " << error.what() << "\n";
    return 1;
  }
}
