// What is used of librdkafka's C interface, declared here so that nothing of it is needed to build. Its
// structs and numbers are frozen: programs link to any later 2.x. kafka_library.cpp fills in the functions at
// run time.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "omnistream/kafka.hpp"

extern "C" {
struct rd_kafka_s;
struct rd_kafka_conf_s;
struct rd_kafka_topic_s;
struct rd_kafka_queue_s;
struct rd_kafka_headers_s;
struct rd_kafka_error_s;
struct rd_kafka_consumer_group_metadata_s;

struct rd_kafka_message_t {
    int err;
    rd_kafka_topic_s* rkt;
    std::int32_t partition;
    void* payload;
    std::size_t len;
    void* key;
    std::size_t key_len;
    std::int64_t offset;
    void* _private;
};

struct rd_kafka_topic_partition_t {
    char* topic;
    std::int32_t partition;
    std::int64_t offset;
    void* metadata;
    std::size_t metadata_size;
    void* opaque;
    int err;
    void* _private;
};

struct rd_kafka_topic_partition_list_t {
    int cnt;
    int size;
    rd_kafka_topic_partition_t* elems;
};

struct rd_kafka_metadata_broker_t {
    std::int32_t id;
    char* host;
    int port;
};

struct rd_kafka_metadata_partition_t {
    std::int32_t id;
    int err;
    std::int32_t leader;
    int replica_cnt;
    std::int32_t* replicas;
    int isr_cnt;
    std::int32_t* isrs;
};

struct rd_kafka_metadata_topic_t {
    char* topic;
    int partition_cnt;
    rd_kafka_metadata_partition_t* partitions;
    int err;
};

struct rd_kafka_metadata_t {
    int broker_cnt;
    rd_kafka_metadata_broker_t* brokers;
    int topic_cnt;
    rd_kafka_metadata_topic_t* topics;
    std::int32_t orig_broker_id;
    char* orig_broker_name;
};

// One argument of rd_kafka_produceva.
struct rd_kafka_vu_t {
    int vtype;
    union {
        const char* cstr;
        rd_kafka_topic_s* rkt;
        int i;
        std::int32_t i32;
        std::int64_t i64;
        struct {
            void* ptr;
            std::size_t size;
        } mem;
        struct {
            const char* name;
            const void* val;
            ssize_t size;
        } header;
        rd_kafka_headers_s* headers;
        void* ptr;
        char _pad[64];
    } u;
};
}

namespace omnistream::rdkafka {

inline constexpr int kProducer = 0, kConsumer = 1;  // rd_kafka_type_t
inline constexpr int kConfOk = 0, kConfUnknown = -2;

inline constexpr int kPartitionEof = -191, kTimedOut = -185, kQueueFull = -184, kAllBrokersDown = -187;
inline constexpr int kAssignPartitions = -175, kRevokePartitions = -174, kNoOffset = -168;
inline constexpr int kTransport = -195, kResolve = -193, kAuthentication = -169, kSsl = -181;
inline constexpr int kPurgeQueue = -152, kPurgeInflight = -151, kFatal = -150, kMaxPollExceeded = -147;
inline constexpr int kFenced = -144, kAutoOffsetReset = -140, kUnknownTopic = -188, kUnknownPartition = -190;
inline constexpr int kLeaderNotAvailable = 5, kState = -172;
inline constexpr int kNotLeader = 6, kReplicaNotAvailable = 9, kFencedLeaderEpoch = 74;
inline constexpr int kUnknownLeaderEpoch = 75;
inline constexpr int kOffsetNotAvailable = 78;
inline constexpr int kCoordinatorLoads = 14, kCoordinatorNotAvailable = 15, kNotCoordinator = 16;
inline constexpr int kUnknownTopicOrPart = 3, kMessageTooLarge = 10, kIllegalGeneration = 22;
inline constexpr int kUnknownMember = 25, kRebalanceInProgress = 27, kTopicAuthorization = 29;
inline constexpr int kGroupAuthorization = 30, kTransactionTimeout = 50, kSaslAuthentication = 58;
inline constexpr int kProducerFenced = 90, kInvalidProducerEpoch = 47;

inline constexpr int kVEnd = 0, kVTopic = 1, kVPartition = 3, kVValue = 4, kVKey = 5, kVMsgflags = 7;
inline constexpr int kVHeader = 9, kVHeaders = 10;
inline constexpr int kCopy = 2;  // RD_KAFKA_MSG_F_COPY
inline constexpr std::int32_t kAnyPartition = -1;

using RebalanceCallback = void(rd_kafka_s*, int, rd_kafka_topic_partition_list_t*, void*);
using ErrorCallback = void(rd_kafka_s*, int, const char*, void*);
using LogCallback = void(const rd_kafka_s*, int, const char*, const char*);
using DeliveryCallback = void(rd_kafka_s*, const rd_kafka_message_t*, void*);

#define OMNI_RDKAFKA_FUNCTIONS(X)                                                                            \
    X(int, version, ())                                                                                      \
    X(const char*, version_str, ())                                                                          \
    X(const char*, err2str, (int))                                                                           \
    X(const char*, err2name, (int))                                                                          \
    X(rd_kafka_conf_s*, conf_new, ())                                                                        \
    X(void, conf_destroy, (rd_kafka_conf_s*))                                                                \
    X(int, conf_set, (rd_kafka_conf_s*, const char*, const char*, char*, std::size_t))                       \
    X(void, conf_set_opaque, (rd_kafka_conf_s*, void*))                                                      \
    X(void, conf_set_rebalance_cb, (rd_kafka_conf_s*, rdkafka::RebalanceCallback*))                          \
    X(void, conf_set_error_cb, (rd_kafka_conf_s*, rdkafka::ErrorCallback*))                                  \
    X(void, conf_set_log_cb, (rd_kafka_conf_s*, rdkafka::LogCallback*))                                      \
    X(void, conf_set_dr_msg_cb, (rd_kafka_conf_s*, rdkafka::DeliveryCallback*))                              \
    X(int, last_error, ())                                                                                   \
    X(void*, opaque, (const rd_kafka_s*))                                                                    \
    X(rd_kafka_s*, new_, (int, rd_kafka_conf_s*, char*, std::size_t))                                        \
    X(void, destroy, (rd_kafka_s*))                                                                          \
    X(int, poll, (rd_kafka_s*, int))                                                                         \
    X(void, yield, (rd_kafka_s*))                                                                            \
    X(int, fatal_error, (rd_kafka_s*, char*, std::size_t))                                                   \
    X(int, outq_len, (rd_kafka_s*))                                                                          \
    X(int, flush, (rd_kafka_s*, int))                                                                        \
    X(int, purge, (rd_kafka_s*, int))                                                                        \
    X(int, metadata, (rd_kafka_s*, int, rd_kafka_topic_s*, const rd_kafka_metadata_t**, int))                \
    X(void, metadata_destroy, (const rd_kafka_metadata_t*))                                                  \
    X(rd_kafka_topic_s*, topic_new, (rd_kafka_s*, const char*, void*))                                       \
    X(void, topic_destroy, (rd_kafka_topic_s*))                                                              \
    X(const char*, topic_name, (const rd_kafka_topic_s*))                                                    \
    X(rd_kafka_topic_partition_list_t*, topic_partition_list_new, (int))                                     \
    X(rd_kafka_topic_partition_t*, topic_partition_list_add,                                                 \
      (rd_kafka_topic_partition_list_t*, const char*, std::int32_t))                                         \
    X(void, topic_partition_list_destroy, (rd_kafka_topic_partition_list_t*))                                \
    X(void*, mem_malloc, (rd_kafka_s*, std::size_t))                                                         \
    X(int, poll_set_consumer, (rd_kafka_s*))                                                                 \
    X(rd_kafka_queue_s*, queue_get_consumer, (rd_kafka_s*))                                                  \
    X(void, queue_destroy, (rd_kafka_queue_s*))                                                              \
    X(ssize_t, consume_batch_queue, (rd_kafka_queue_s*, int, rd_kafka_message_t**, std::size_t))             \
    X(void, message_destroy, (rd_kafka_message_t*))                                                          \
    X(const char*, message_errstr, (const rd_kafka_message_t*))                                              \
    X(std::int64_t, message_timestamp, (const rd_kafka_message_t*, int*))                                    \
    X(int, message_headers, (const rd_kafka_message_t*, rd_kafka_headers_s**))                               \
    X(int, header_get_last, (const rd_kafka_headers_s*, const char*, const void**, std::size_t*))            \
    X(int, subscribe, (rd_kafka_s*, const rd_kafka_topic_partition_list_t*))                                 \
    X(int, unsubscribe, (rd_kafka_s*))                                                                       \
    X(int, assign, (rd_kafka_s*, const rd_kafka_topic_partition_list_t*))                                    \
    X(rd_kafka_error_s*, incremental_assign, (rd_kafka_s*, const rd_kafka_topic_partition_list_t*))          \
    X(rd_kafka_error_s*, incremental_unassign, (rd_kafka_s*, const rd_kafka_topic_partition_list_t*))        \
    X(const char*, rebalance_protocol, (rd_kafka_s*))                                                        \
    X(int, assignment_lost, (rd_kafka_s*))                                                                   \
    X(int, pause_partitions, (rd_kafka_s*, rd_kafka_topic_partition_list_t*))                                \
    X(int, resume_partitions, (rd_kafka_s*, rd_kafka_topic_partition_list_t*))                               \
    X(rd_kafka_error_s*, seek_partitions, (rd_kafka_s*, rd_kafka_topic_partition_list_t*, int))              \
    X(int, committed, (rd_kafka_s*, rd_kafka_topic_partition_list_t*, int))                                  \
    X(int, commit, (rd_kafka_s*, const rd_kafka_topic_partition_list_t*, int))                               \
    X(int, offsets_for_times, (rd_kafka_s*, rd_kafka_topic_partition_list_t*, int))                          \
    X(int, query_watermark_offsets,                                                                          \
      (rd_kafka_s*, const char*, std::int32_t, std::int64_t*, std::int64_t*, int))                           \
    X(int, get_watermark_offsets, (rd_kafka_s*, const char*, std::int32_t, std::int64_t*, std::int64_t*))    \
    X(int, consumer_close, (rd_kafka_s*))                                                                    \
    X(rd_kafka_consumer_group_metadata_s*, consumer_group_metadata, (rd_kafka_s*))                           \
    X(void, consumer_group_metadata_destroy, (rd_kafka_consumer_group_metadata_s*))                          \
    X(rd_kafka_error_s*, produceva, (rd_kafka_s*, const rd_kafka_vu_t*, std::size_t))                        \
    X(rd_kafka_error_s*, init_transactions, (rd_kafka_s*, int))                                              \
    X(rd_kafka_error_s*, begin_transaction, (rd_kafka_s*))                                                   \
    X(rd_kafka_error_s*, send_offsets_to_transaction,                                                        \
      (rd_kafka_s*, const rd_kafka_topic_partition_list_t*, const rd_kafka_consumer_group_metadata_s*, int)) \
    X(rd_kafka_error_s*, commit_transaction, (rd_kafka_s*, int))                                             \
    X(rd_kafka_error_s*, abort_transaction, (rd_kafka_s*, int))                                              \
    X(int, error_code, (const rd_kafka_error_s*))                                                            \
    X(const char*, error_string, (const rd_kafka_error_s*))                                                  \
    X(int, error_is_fatal, (const rd_kafka_error_s*))                                                        \
    X(int, error_is_retriable, (const rd_kafka_error_s*))                                                    \
    X(int, error_txn_requires_abort, (const rd_kafka_error_s*))                                              \
    X(void, error_destroy, (rd_kafka_error_s*))

}  // namespace omnistream::rdkafka

namespace omnistream {

// The functions of librdkafka. A process has one copy, never unloaded: its threads live in it.
struct KafkaLibrary {
    std::string path;
#define OMNI_DECLARE(result, name, arguments) result(*name) arguments = nullptr;
    OMNI_RDKAFKA_FUNCTIONS(OMNI_DECLARE)
#undef OMNI_DECLARE
};

namespace rdkafka {

// The one that was loaded; not null once there is a client.
[[nodiscard]] const KafkaLibrary* loaded();
// "Local: Broker transport failure (_TRANSPORT)", in librdkafka's own words.
[[nodiscard]] std::string describe(const KafkaLibrary& library, int error);
// What an operator can do about it; "" when there is nothing better to say than the error itself.
[[nodiscard]] std::string advice(int error);
// Both, behind `what` was tried.
[[nodiscard]] std::string explain(const KafkaLibrary& library, const std::string& what, int error,
                                  const std::string& detail = "");

// A line that librdkafka logs, from any of its threads; failed connections are remembered, too.
// As rd_kafka_metadata, but it does not go on asking with a password or a certificate that was refused.
int metadata_of(const KafkaLibrary& library, rd_kafka_s* client, rd_kafka_topic_s* topic, int timeout_ms,
                const KafkaLog& log, const rd_kafka_metadata_t** out);
void take_log_line(int level, const char* facility, const char* text, KafkaLog* log);

// A configuration from the user's settings (which must all be known) and then `defaults`, for what the user
// left open and as far as this librdkafka knows them.
Status configure(const KafkaLibrary& library, const KafkaSettings& settings, const KafkaSettings& defaults,
                 Code code, rd_kafka_conf_s** out);

struct ListDeleter {
    const KafkaLibrary* library;
    void operator()(rd_kafka_topic_partition_list_t* list) const {
        library->topic_partition_list_destroy(list);
    }
};
using List = std::unique_ptr<rd_kafka_topic_partition_list_t, ListDeleter>;
[[nodiscard]] List to_list(const KafkaLibrary& library, rd_kafka_s* client,
                           const std::vector<KafkaPartition>& partitions);
[[nodiscard]] std::vector<KafkaPartition> from_list(const rd_kafka_topic_partition_list_t* list);

}  // namespace rdkafka
}  // namespace omnistream
