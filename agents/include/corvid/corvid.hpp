// The whole library. `corvid/asio.hpp`, for hosts with Boost.Asio, is apart.
#pragma once
#include <corvid/agent.hpp>    // who works
#include <corvid/engine.hpp>   // what computes
#include <corvid/event.hpp>    // what a run tells, and what it amounts to
#include <corvid/log.hpp>      // the host's logger
#include <corvid/message.hpp>  // what was said
#include <corvid/model.hpp>    // the weights
#include <corvid/session.hpp>  // a conversation, and a run of it
#include <corvid/store.hpp>    // where sessions are kept
#include <corvid/tool.hpp>     // tools of the host
