// The limit: a loop over librdkafka that does nothing with a message but count its bytes, and one that sends
// the lines of its standard input as messages, as fast as it can or at a rate. librdkafka is the one that
// confluent-kafka brings; what is used of it is declared here.
//
//     bare_loop LIBRARY BROKERS TOPIC consume MESSAGES [SETTING=VALUE ...]
//     bare_loop LIBRARY BROKERS TOPIC produce MESSAGES [PER_SECOND]
//
// Reads partition 0, from its beginning. A message that is sent has the key SKU|CHANNEL. The last line is
// JSON.
#include <dlfcn.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct rd_kafka_t;
struct rd_kafka_conf_t;
struct rd_kafka_topic_t;
struct rd_kafka_queue_t;
struct rd_kafka_message_t {
    int err;
    rd_kafka_topic_t* rkt;
    std::int32_t partition;
    void* payload;
    std::size_t len;
    void* key;
    std::size_t key_len;
    std::int64_t offset;
    void* opaque;
};

constexpr int kProducer = 0, kConsumer = 1, kCopy = 2, kQueueFull = -184;
constexpr std::int64_t kBeginning = -2;

[[noreturn]] void stop(const char* what) {
    std::fprintf(stderr, "bare_loop: %s\n", what);
    std::exit(1);
}

void* library = nullptr;

template <class Function>
Function* find(const char* name) {
    void* found = dlsym(library, name);
    if (found == nullptr) stop(name);
    return reinterpret_cast<Function*>(found);
}

double now(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

rd_kafka_t* open(int kind, const char* brokers,
                 const std::vector<std::pair<const char*, const char*>>& settings) {
    char why[512] = "";
    auto* conf = find<rd_kafka_conf_t*()>("rd_kafka_conf_new")();
    auto set = find<int(rd_kafka_conf_t*, const char*, const char*, char*, std::size_t)>("rd_kafka_conf_set");
    if (set(conf, "bootstrap.servers", brokers, why, sizeof why) != 0) stop(why);
    for (const auto& [key, value] : settings)
        if (set(conf, key, value, why, sizeof why) != 0) stop(why);
    auto* client = find<rd_kafka_t*(int, rd_kafka_conf_t*, char*, std::size_t)>("rd_kafka_new")(
        kind, conf, why, sizeof why);
    if (client == nullptr) stop(why);
    return client;
}

void consume(const char* brokers, const char* name, std::int64_t wanted, char** more, int count_more) {
    // As omnistream's source sets them.
    std::vector<std::pair<const char*, const char*>> settings{{"group.id", "bare"},
                                                              {"enable.auto.commit", "false"},
                                                              {"isolation.level", "read_committed"},
                                                              {"queued.min.messages", "100000"},
                                                              {"queued.max.messages.kbytes", "65536"},
                                                              {"fetch.queue.backoff.ms", "20"}};
    for (char** each = more; each != more + count_more; ++each) {
        char* equals = std::strchr(*each, '=');
        if (equals == nullptr) stop("SETTING=VALUE");
        *equals = '\0';
        settings.emplace_back(*each, equals + 1);
    }
    rd_kafka_t* client = open(kConsumer, brokers, settings);
    auto* topic =
        find<rd_kafka_topic_t*(rd_kafka_t*, const char*, void*)>("rd_kafka_topic_new")(client, name, nullptr);
    auto* queue = find<rd_kafka_queue_t*(rd_kafka_t*)>("rd_kafka_queue_new")(client);
    if (find<int(rd_kafka_topic_t*, std::int32_t, std::int64_t, rd_kafka_queue_t*)>(
            "rd_kafka_consume_start_queue")(topic, 0, kBeginning, queue) != 0)
        stop("cannot start to consume");
    auto take = find<ssize_t(rd_kafka_queue_t*, int, rd_kafka_message_t**, std::size_t)>(
        "rd_kafka_consume_batch_queue");
    auto destroy = find<void(rd_kafka_message_t*)>("rd_kafka_message_destroy");
    std::vector<rd_kafka_message_t*> messages(1024);
    std::int64_t count = 0;
    std::uint64_t bytes = 0;
    double begin = 0, begin_cpu = 0;
    std::size_t want = 1;
    int timeout_ms = 30'000;
    while (count < wanted) {
        const ssize_t got = take(queue, timeout_ms, messages.data(), want);
        if (got <= 0 && timeout_ms != 0) stop("no message for 30 s");
        if (begin == 0) {
            begin = now(CLOCK_MONOTONIC);
            begin_cpu = now(CLOCK_THREAD_CPUTIME_ID);
        }
        for (ssize_t i = 0; i < got; ++i) {
            rd_kafka_message_t* message = messages[static_cast<std::size_t>(i)];
            if (message->err == 0) {
                ++count;
                bytes += message->len;
            }
            destroy(message);
        }
        want = got == 0 ? 1 : messages.size();  // wait for the first one, then take what is there
        timeout_ms = got == 0 ? 30'000 : 0;
    }
    std::printf(
        "{\"messages\": %lld, \"bytes\": %llu, \"seconds\": %.6f, \"engine_cpu_s\": %.6f, \"cpu_s\": %.6f}\n",
        static_cast<long long>(count), static_cast<unsigned long long>(bytes), now(CLOCK_MONOTONIC) - begin,
        now(CLOCK_THREAD_CPUTIME_ID) - begin_cpu, now(CLOCK_PROCESS_CPUTIME_ID));
    std::fflush(stdout);
    _exit(0);  // what is prefetched is of no interest
}

std::string_view field(std::string_view line, std::string_view name) {
    const std::size_t at = line.find(name);
    if (at == std::string_view::npos) return {};
    const std::size_t from = at + name.size();
    return line.substr(from, line.find('"', from) - from);
}

void produce(const char* brokers, const char* name, std::int64_t wanted, double per_second) {
    rd_kafka_t* client = open(kProducer, brokers,
                              {{"linger.ms", per_second > 0 ? "5" : "20"},
                               {"compression.type", "lz4"},
                               {"enable.idempotence", "true"},
                               // At a rate: what waits here has its time already, so little may wait.
                               {"queue.buffering.max.messages", per_second > 0 ? "10000" : "1000000"}});
    auto* topic =
        find<rd_kafka_topic_t*(rd_kafka_t*, const char*, void*)>("rd_kafka_topic_new")(client, name, nullptr);
    auto send =
        find<int(rd_kafka_topic_t*, std::int32_t, int, void*, std::size_t, const void*, std::size_t, void*)>(
            "rd_kafka_produce");
    auto poll = find<int(rd_kafka_t*, int)>("rd_kafka_poll");
    auto last_error = find<int()>("rd_kafka_last_error");
    std::vector<char> buffer(8 << 20);
    std::size_t filled = 0;
    std::int64_t count = 0;
    std::string key;
    const double begin = now(CLOCK_MONOTONIC);
    while (count < wanted) {
        const ssize_t got = read(STDIN_FILENO, buffer.data() + filled, buffer.size() - filled);
        if (got <= 0) break;
        filled += static_cast<std::size_t>(got);
        std::size_t at = 0;
        while (count < wanted) {
            const void* newline = std::memchr(buffer.data() + at, '\n', filled - at);
            if (newline == nullptr) break;
            const std::string_view line(
                buffer.data() + at,
                static_cast<std::size_t>(static_cast<const char*>(newline) - buffer.data()) - at);
            key.assign(field(line, "\"sku\":\"")).append("|").append(field(line, "\"channel\":\""));
            if (per_second > 0)
                while (now(CLOCK_MONOTONIC) - begin < static_cast<double>(count) / per_second) usleep(500);
            while (send(topic, 0, kCopy, const_cast<char*>(line.data()), line.size(), key.data(), key.size(),
                        nullptr) != 0) {
                if (last_error() != kQueueFull) stop("cannot produce");
                poll(client, 10);
            }
            if (++count % 1024 == 0) poll(client, 0);
            at += line.size() + 1;
        }
        std::memmove(buffer.data(), buffer.data() + at, filled - at);
        filled -= at;
    }
    if (find<int(rd_kafka_t*, int)>("rd_kafka_flush")(client, 60'000) != 0) stop("not all was delivered");
    std::printf("{\"messages\": %lld, \"seconds\": %.6f, \"cpu_s\": %.6f}\n", static_cast<long long>(count),
                now(CLOCK_MONOTONIC) - begin, now(CLOCK_PROCESS_CPUTIME_ID));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 6) stop("LIBRARY BROKERS TOPIC consume|produce MESSAGES [PER_SECOND]");
    library = dlopen(argv[1], RTLD_NOW);
    if (library == nullptr) stop(dlerror());
    if (std::strcmp(argv[4], "consume") == 0)
        consume(argv[2], argv[3], std::atoll(argv[5]), argv + 6, argc - 6);
    else
        produce(argv[2], argv[3], std::atoll(argv[5]), argc > 6 ? std::atof(argv[6]) : 0);
}
