// Runs a grid on the CPU. A stage's shared library is this header, the stage's .cu and the list of its
// kernels (see ../launch.py, which writes and compiles that file).
//
// A block's threads share one fiber for as long as they return without waiting: a kernel without barriers
// costs no switch at all. One that waits keeps its fiber, and the next thread gets another. When all that
// could still come wait for something that cannot happen (a barrier in a branch that some threads do not
// take), the launch ends with an error. Order 0 takes the threads of a block and the blocks of a grid as they
// are numbered, order 1 backwards: a result that differs depends on timing on a GPU.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cuda.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace omnistream::host {

struct Kernel {
    const char* name;
    void (*call)(void** arguments);
    std::vector<std::size_t> sizes;  // of the arguments, in bytes
};

template <auto kFunction>
struct Caller;
template <class... Arguments, void (*kFunction)(Arguments...)>
struct Caller<kFunction> {
    template <std::size_t... kIndex>
    static void call(void** arguments, std::index_sequence<kIndex...>) {
        kFunction(*static_cast<Arguments*>(arguments[kIndex])...);
    }
    static void call(void** arguments) { call(arguments, std::index_sequence_for<Arguments...>()); }
    static Kernel kernel(const char* name) { return {name, &Caller::call, {sizeof(Arguments)...}}; }
};

class Grid {
public:
    // Empty when all threads returned, else what went wrong.
    std::string run(const Kernel& kernel, unsigned blocks, unsigned threads, void** arguments, int order) {
        kernel_ = &kernel;
        arguments_ = arguments;
        order_ = order;
        grid_size = {blocks, 1, 1};
        block_size = {threads, 1, 1};
        for (unsigned block = 0; block < blocks; ++block) {
            block_place = {order == 0 ? block : blocks - 1 - block, 0, 0};
            if (!run_block(threads))
                return std::string(kernel.name) + ": threads of block " + std::to_string(block_place.x) +
                       " wait for each other at different places";
        }
        return {};
    }

    void sync_block() {
        Thread& self = *turn_;
        self.waits = Thread::for_block;
        ++arrived_;
        release_block();
        yield();
    }

    const std::uint64_t* exchange(unsigned mask, std::uint64_t value) {
        Thread& self = *turn_;
        self.waits = Thread::for_warp;
        self.mask = mask;
        self.value = value;
        release_warp(self.index / kWarp, mask);
        if (self.waits != Thread::nothing) yield();
        return self.seen;
    }

    [[nodiscard]] unsigned lane() const { return turn_->index % kWarp; }

    static Grid& instance() {
        static Grid grid;
        return grid;
    }

private:
    static constexpr unsigned kWarp = 32;
    static constexpr std::size_t kStackBytes = 128 << 10;

    struct Fiber {
        ucontext_t context;
        std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStackBytes);
        void* fake_stack = nullptr;  // the sanitizer's
        bool started = false;
    };
    struct Thread {
        enum Waits : std::uint8_t { nothing, for_block, for_warp };
        unsigned index = 0;
        Waits waits = nothing;
        bool returned = false;
        unsigned mask = 0;
        std::uint64_t value = 0;
        std::uint64_t seen[kWarp] = {};
        Fiber* fiber = nullptr;
    };

    bool run_block(unsigned threads) {
        threads_.assign(threads, {});
        for (unsigned i = 0; i < threads; ++i) threads_[i].index = i;
        next_ = arrived_ = 0;
        alive_ = threads;
        ready_.clear();
        while (alive_ != 0) {
            if (!ready_.empty()) {
                Thread* const thread = ready_.back();
                ready_.pop_back();
                take_turn(thread);
                enter(thread->fiber);
            } else if (next_ < threads) {
                enter(idle_fiber());
            } else {
                idle_.clear();  // what waits is given up, with its stacks
                fibers_.clear();
                return false;
            }
        }
        return true;
    }

    // ---- turns

    void take_turn(Thread* thread) {
        turn_ = thread;
        thread_place = {thread->index, 0, 0};
    }

    // A fiber runs one thread after the other until one of them waits.
    void work() {
        for (;;) {
            while (next_ < threads_.size()) {
                const auto count = static_cast<unsigned>(threads_.size());
                Thread& thread = threads_[order_ == 0 ? next_ : count - 1 - next_];
                ++next_;
                thread.fiber = running_;
                take_turn(&thread);
                kernel_->call(arguments_);
                finish(*turn_);
                // Those that were set free go on first, each in its own fiber.
                if (!ready_.empty()) break;
            }
            idle_.push_back(running_);
            yield();
        }
    }

    void finish(Thread& thread) {
        thread.returned = true;
        --alive_;
        release_block();
        const unsigned warp = thread.index / kWarp;
        for (unsigned i = warp * kWarp; i < (warp + 1) * kWarp && i < threads_.size(); ++i)
            if (threads_[i].waits == Thread::for_warp) release_warp(warp, threads_[i].mask);
    }

    void release_block() {
        if (arrived_ == 0 || arrived_ != alive_) return;
        arrived_ = 0;
        for (Thread& thread : threads_) {
            if (thread.waits != Thread::for_block) continue;
            thread.waits = Thread::nothing;
            ready_.push_back(&thread);
        }
    }

    // Lanes past the end of the block count as returned.
    void release_warp(unsigned warp, unsigned mask) {
        const auto first = std::size_t{warp} * kWarp;
        const std::size_t end = first + kWarp < threads_.size() ? first + kWarp : threads_.size();
        for (std::size_t i = first; i < end; ++i) {
            const Thread& thread = threads_[i];
            if ((mask >> (i - first) & 1U) == 0 || thread.returned) continue;
            if (thread.waits != Thread::for_warp || thread.mask != mask) return;
        }
        for (std::size_t i = first; i < end; ++i) {
            Thread& thread = threads_[i];
            if ((mask >> (i - first) & 1U) == 0 || thread.returned) continue;
            for (std::size_t j = first; j < end; ++j)
                thread.seen[j - first] =
                    (mask >> (j - first) & 1U) != 0 && !threads_[j].returned ? threads_[j].value : 0;
        }
        for (std::size_t i = first; i < end; ++i) {
            Thread& thread = threads_[i];
            if ((mask >> (i - first) & 1U) == 0 || thread.returned) continue;
            thread.waits = Thread::nothing;
            if (&thread != turn_) ready_.push_back(&thread);
        }
    }

    // ---- fibers

    Fiber* idle_fiber() {
        if (idle_.empty()) {
            fibers_.push_back(std::make_unique<Fiber>());
            return fibers_.back().get();
        }
        Fiber* const fiber = idle_.back();
        idle_.pop_back();
        return fiber;
    }

    static void begin() {
        Grid& grid = instance();
        after_switch(grid.running_->fake_stack);
        grid.work();
    }

    void enter(Fiber* fiber) {
        running_ = fiber;
        if (!fiber->started) {
            fiber->started = true;
            getcontext(&fiber->context);
            fiber->context.uc_stack.ss_sp = fiber->stack.get();
            fiber->context.uc_stack.ss_size = kStackBytes;
            fiber->context.uc_link = nullptr;
            makecontext(&fiber->context, &Grid::begin, 0);
        }
        void* fake_stack = nullptr;
        before_switch(&fake_stack, fiber->stack.get(), kStackBytes);
        swapcontext(&main_, &fiber->context);
        after_switch(fake_stack);
    }

    void yield() {
        Fiber* const fiber = running_;
        before_switch(&fiber->fake_stack, main_stack_, main_stack_bytes_);
        swapcontext(&fiber->context, &main_);
        after_switch(fiber->fake_stack);
    }

#if defined(__SANITIZE_ADDRESS__)
    static void before_switch(void** fake_stack, const void* stack, std::size_t bytes) {
        __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
    }
    // Of the stack that was left: only the main one has no fiber to know it.
    static void after_switch(void* fake_stack) {
        const void* left = nullptr;
        std::size_t bytes = 0;
        __sanitizer_finish_switch_fiber(fake_stack, &left, &bytes);
        Grid& grid = instance();
        for (const auto& fiber : grid.fibers_)
            if (fiber->stack.get() == left) return;
        grid.main_stack_ = left;
        grid.main_stack_bytes_ = bytes;
    }
#else
    static void before_switch(void**, const void*, std::size_t) {}
    static void after_switch(void*) {}
#endif

    const Kernel* kernel_ = nullptr;
    void** arguments_ = nullptr;
    int order_ = 0;
    std::vector<Thread> threads_;
    std::size_t next_ = 0;     // to start
    std::size_t alive_ = 0;    // not returned
    std::size_t arrived_ = 0;  // at the block's barrier
    std::vector<Thread*> ready_;
    Thread* turn_ = nullptr;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<Fiber*> idle_;
    Fiber* running_ = nullptr;
    ucontext_t main_;
    const void* main_stack_ = nullptr;
    std::size_t main_stack_bytes_ = 0;
};

inline void sync_block() {
    Grid::instance().sync_block();
}
inline const std::uint64_t* exchange(unsigned mask, std::uint64_t value) {
    return Grid::instance().exchange(mask, value);
}
inline unsigned lane() {
    return Grid::instance().lane();
}

// 0: it ran. 1: no such kernel. 2: the arguments do not fit. 3: the threads are stuck. `text` says more.
inline int launch(const std::vector<Kernel>& kernels, const char* name, unsigned blocks, unsigned threads,
                  std::size_t count, const std::size_t* sizes, void** arguments, int order, char* text,
                  std::size_t text_bytes) {
    static std::mutex busy;
    const std::lock_guard lock(busy);
    const auto say = [&](const std::string& what) { std::snprintf(text, text_bytes, "%s", what.c_str()); };
    for (const Kernel& kernel : kernels) {
        if (std::string_view(kernel.name) != name) continue;
        if (count != kernel.sizes.size()) {
            say(std::string(name) + " takes " + std::to_string(kernel.sizes.size()) + " arguments, not " +
                std::to_string(count));
            return 2;
        }
        for (std::size_t i = 0; i < count; ++i) {
            if (sizes[i] == kernel.sizes[i]) continue;
            say(std::string(name) + ": argument " + std::to_string(i) + " has " +
                std::to_string(kernel.sizes[i]) + " bytes, not " + std::to_string(sizes[i]));
            return 2;
        }
        const std::string fault = Grid::instance().run(kernel, blocks, threads, arguments, order);
        say(fault);
        return fault.empty() ? 0 : 3;
    }
    say(std::string("no kernel ") + name);
    return 1;
}

}  // namespace omnistream::host
