// Errors are codes inside the core; they become Python exceptions in cpp/bindings and nowhere else.
#pragma once

#include <string>
#include <utility>

namespace omnistream {

enum class Code : unsigned char {
    ok,
    schema,    // a schema or a batch that does not fit it      -> SchemaError
    decode,    // input that cannot be read as messages at all  -> DecodeError
    state,     // overflow of a sum, a snapshot that does not fit -> StateError
    argument,  // a caller's mistake                            -> ValueError
    source,    // a source that cannot be read                  -> SourceError
    sink,      // a sink that cannot be written                 -> SinkError
};

class [[nodiscard]] Status {
public:
    Status() = default;
    Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

    [[nodiscard]] bool ok() const { return code_ == Code::ok; }
    [[nodiscard]] Code code() const { return code_; }
    [[nodiscard]] const std::string& message() const { return message_; }

private:
    Code code_ = Code::ok;
    std::string message_;
};

#define OMNI_RETURN_NOT_OK(expression)               \
    do {                                             \
        ::omnistream::Status status_ = (expression); \
        if (!status_.ok()) return status_;           \
    } while (false)

}  // namespace omnistream
