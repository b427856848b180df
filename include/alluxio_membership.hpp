/*
 * The C API as C++17: objects that free themselves, enum classes, and errors as exceptions. All
 * code is inline, on top of alluxio_membership.h. The rules of that header hold: threads, blocking,
 * fork, signals.
 */
#ifndef ALLUXIO_MEMBERSHIP_HPP
#define ALLUXIO_MEMBERSHIP_HPP

#include "alluxio_membership.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace alluxio::membership {

/** What went wrong. Later versions may add kinds, so a switch needs a default. */
enum class ErrorKind : int32_t {
    InvalidArgument = AXM_ERROR_INVALID_ARGUMENT,
    InvalidConfig = AXM_ERROR_INVALID_CONFIG,
    MissingConfig = AXM_ERROR_MISSING_CONFIG,
    NotFound = AXM_ERROR_NOT_FOUND,
    AlreadyExists = AXM_ERROR_ALREADY_EXISTS,
    Corrupt = AXM_ERROR_CORRUPT,
    Unavailable = AXM_ERROR_UNAVAILABLE,
    Unauthenticated = AXM_ERROR_UNAUTHENTICATED,
    PermissionDenied = AXM_ERROR_PERMISSION_DENIED,
    Io = AXM_ERROR_IO,
    Closed = AXM_ERROR_CLOSED,
    Forked = AXM_ERROR_FORKED,
    Internal = AXM_ERROR_INTERNAL,
    ResourceExhausted = AXM_ERROR_RESOURCE_EXHAUSTED
};

/** Which workers a caller asks for. */
enum class MemberFilter : int32_t {
    All = AXM_FILTER_ALL,
    Live = AXM_FILTER_LIVE,
    Lost = AXM_FILTER_LOST
};

/** The state of a worker. */
enum class WorkerState : int32_t { Live = AXM_STATE_LIVE, Lost = AXM_STATE_LOST };

/** What happened to a worker. Later versions may add kinds, so a switch needs a default. */
enum class ChangeKind : int32_t {
    Added = AXM_CHANGE_ADDED,
    Removed = AXM_CHANGE_REMOVED,
    Live = AXM_CHANGE_LIVE,
    Lost = AXM_CHANGE_LOST,
    Moved = AXM_CHANGE_MOVED
};

/** The state of a registration. */
enum class RegistrationState : int32_t {
    Joining = AXM_REGISTRATION_JOINING,
    Registered = AXM_REGISTRATION_REGISTERED,
    Suspect = AXM_REGISTRATION_SUSPECT,
    Lost = AXM_REGISTRATION_LOST,
    Rejoining = AXM_REGISTRATION_REJOINING,
    Left = AXM_REGISTRATION_LEFT
};

/** How important a message is. */
enum class LogLevel : int32_t {
    Off = AXM_LOG_OFF,
    Error = AXM_LOG_ERROR,
    Warn = AXM_LOG_WARN,
    Info = AXM_LOG_INFO,
    Debug = AXM_LOG_DEBUG,
    Trace = AXM_LOG_TRACE
};

/** Why a call failed. */
class Error : public std::runtime_error {
public:
    /** Copies an error of the C API. */
    explicit Error(const axm_error_t *error)
        : std::runtime_error(axm_error_message(error)),
          kind_(axm_error_kind(error)),
          retryable_(axm_error_is_retryable(error)),
          timeout_(axm_error_is_timeout(error))
    {
    }

    ErrorKind kind() const noexcept { return static_cast<ErrorKind>(kind_); }
    /** Returns the name of the kind in the C header, such as "AXM_ERROR_UNAVAILABLE". */
    const char *name() const noexcept { return axm_error_name(kind_); }
    /** Returns whether the same call may succeed later without any correction. */
    bool is_retryable() const noexcept { return retryable_; }
    /** Returns whether no answer came in time: etcd may have done what the call asked for. */
    bool is_timeout() const noexcept { return timeout_; }

private:
    axm_error_kind_t kind_;
    bool retryable_;
    bool timeout_;
};

/** Throws what a function of the C API returned, if it is an error. */
inline void check(axm_error_t *error)
{
    if (error != nullptr) {
        const std::unique_ptr<axm_error_t, decltype(&axm_error_free)> owned(error, axm_error_free);
        throw Error(error);
    }
}

/** Copies a text for the C API, where a text ends at its first NUL. */
inline std::string c_text(std::string_view text)
{
    if (text.find('\0') != std::string_view::npos) {
        throw std::invalid_argument("a text for alluxio-membership contains NUL");
    }
    return std::string(text);
}

/** Returns the version of the library that is loaded, such as "0.1.0". */
inline std::string_view version() noexcept { return axm_version(); }

/** Ends every registration, then the library. See axm_shutdown. */
inline void shutdown(std::chrono::milliseconds timeout) { check(axm_shutdown(timeout.count())); }

/** The properties that a membership is opened with. */
class Config {
public:
    Config() : config_(axm_config_new(), axm_config_free) {}

    /** Sets one property. */
    Config &set(std::string_view key, std::string_view value)
    {
        check(axm_config_set(config_.get(), c_text(key).c_str(), c_text(value).c_str()));
        return *this;
    }

    /** Sets all properties of a file in the format of alluxio-site.properties. */
    Config &load_file(std::string_view path)
    {
        check(axm_config_load_file(config_.get(), c_text(path).c_str()));
        return *this;
    }

    const axm_config_t *get() const noexcept { return config_.get(); }

private:
    std::unique_ptr<axm_config_t, decltype(&axm_config_free)> config_;
};

/**
 * A worker to register, built step by step:
 * Worker("worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d", "host1").rpc_port(29999)
 */
class Worker {
public:
    Worker(std::string_view identity, std::string_view host)
        : identity_(c_text(identity)), host_(c_text(host))
    {
    }

    Worker &container_host(std::string_view host)
    {
        container_host_ = c_text(host);
        return *this;
    }
    Worker &domain_socket_path(std::string_view path)
    {
        domain_socket_path_ = c_text(path);
        return *this;
    }
    Worker &rpc_port(int32_t port) { return set(&axm_worker_t::rpc_port, port); }
    Worker &data_port(int32_t port) { return set(&axm_worker_t::data_port, port); }
    Worker &secure_rpc_port(int32_t port) { return set(&axm_worker_t::secure_rpc_port, port); }
    Worker &netty_data_port(int32_t port) { return set(&axm_worker_t::netty_data_port, port); }
    Worker &web_port(int32_t port) { return set(&axm_worker_t::web_port, port); }
    Worker &http_server_port(int32_t port) { return set(&axm_worker_t::http_server_port, port); }

    /** Returns the worker for the C API. Its texts belong to this object. */
    axm_worker_t get() const noexcept
    {
        axm_worker_t worker = ports_;
        worker.identity = identity_.c_str();
        worker.host = host_.c_str();
        worker.container_host = container_host_.c_str();
        worker.domain_socket_path = domain_socket_path_.c_str();
        return worker;
    }

private:
    Worker &set(int32_t axm_worker_t::*field, int32_t port) noexcept
    {
        ports_.*field = port;
        return *this;
    }

    std::string identity_;
    std::string host_;
    std::string container_host_;
    std::string domain_socket_path_;
    axm_worker_t ports_ = AXM_WORKER_INIT;
};

/** How a worker joins. */
struct JoinOptions {
    /** Whether the workers run on Kubernetes; as configured if it is empty. */
    std::optional<bool> k8s;
};

/** A worker in a snapshot. A member and its texts must not outlive the snapshot. */
class Member {
public:
    explicit Member(const axm_member_t *member) : member_(member) {}

    std::string_view identity() const noexcept { return worker().identity; }
    std::string_view host() const noexcept { return worker().host; }
    std::string_view container_host() const noexcept { return worker().container_host; }
    std::string_view domain_socket_path() const noexcept { return worker().domain_socket_path; }
    int32_t rpc_port() const noexcept { return worker().rpc_port; }
    int32_t data_port() const noexcept { return worker().data_port; }
    int32_t secure_rpc_port() const noexcept { return worker().secure_rpc_port; }
    int32_t netty_data_port() const noexcept { return worker().netty_data_port; }
    int32_t web_port() const noexcept { return worker().web_port; }
    int32_t http_server_port() const noexcept { return worker().http_server_port; }
    WorkerState state() const noexcept
    {
        return static_cast<WorkerState>(axm_member_state(member_));
    }
    bool is_live() const noexcept { return state() == WorkerState::Live; }
    /** Returns all fields of the worker. */
    const axm_worker_t &worker() const noexcept { return *axm_member_worker(member_); }

private:
    const axm_member_t *member_;
};

/** A key of the cluster that is not listed. Must not outlive the snapshot. */
struct SkippedRecord {
    std::string_view key;
    /** Why the record cannot be read. */
    std::string_view reason;
};

/** Workers at one moment. Copies share the same snapshot. */
class Snapshot {
public:
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Member;
        using difference_type = std::ptrdiff_t;
        using pointer = void;
        using reference = Member;

        Iterator(const axm_snapshot_t *snapshot, std::size_t index)
            : snapshot_(snapshot), index_(index)
        {
        }
        Member operator*() const { return Member(axm_snapshot_member(snapshot_, index_)); }
        Iterator &operator++()
        {
            ++index_;
            return *this;
        }
        Iterator operator++(int)
        {
            Iterator before = *this;
            ++index_;
            return before;
        }
        bool operator==(const Iterator &other) const { return index_ == other.index_; }
        bool operator!=(const Iterator &other) const { return index_ != other.index_; }

    private:
        const axm_snapshot_t *snapshot_;
        std::size_t index_;
    };

    /** Takes over a snapshot of which the caller is an owner. */
    explicit Snapshot(axm_snapshot_t *snapshot) : snapshot_(snapshot, axm_snapshot_release) {}

    std::size_t size() const noexcept { return axm_snapshot_count(snapshot_.get()); }
    Iterator begin() const { return Iterator(snapshot_.get(), 0); }
    Iterator end() const { return Iterator(snapshot_.get(), size()); }
    uint64_t version() const noexcept { return axm_snapshot_version(snapshot_.get()); }
    int64_t revision() const noexcept { return axm_snapshot_revision(snapshot_.get()); }
    /** Returns the time since etcd was last known to have exactly these workers. */
    std::chrono::milliseconds age() const noexcept
    {
        return std::chrono::milliseconds(axm_snapshot_age_ms(snapshot_.get()));
    }

    /* What would point into a temporary snapshot does not compile. */
    std::vector<SkippedRecord> skipped() const && = delete;
    /** Returns the records that are not listed, at most 100. */
    std::vector<SkippedRecord> skipped() const &
    {
        std::vector<SkippedRecord> records;
        const std::size_t count = axm_snapshot_skipped_count(snapshot_.get());
        for (std::size_t i = 0; i < count; ++i) {
            records.push_back({axm_snapshot_skipped_key(snapshot_.get(), i),
                               axm_snapshot_skipped_reason(snapshot_.get(), i)});
        }
        return records;
    }
    /** Returns the number of all records that are not listed. */
    std::size_t skipped_total() const noexcept
    {
        return axm_snapshot_skipped_total(snapshot_.get());
    }

    std::optional<Member> find(std::string_view identity) const && = delete;
    /** Returns the worker of an identity, if the snapshot contains it. */
    std::optional<Member> find(std::string_view identity) const &
    {
        const axm_member_t *member = nullptr;
        check(axm_snapshot_find(snapshot_.get(), c_text(identity).c_str(), &member));
        return member == nullptr ? std::nullopt : std::optional<Member>(Member(member));
    }

    const axm_snapshot_t *get() const noexcept { return snapshot_.get(); }

private:
    std::shared_ptr<axm_snapshot_t> snapshot_;
};

/** A text of a status, if there is one. */
inline std::optional<std::string_view> optional_text(const char *text) noexcept
{
    return text == nullptr ? std::nullopt : std::optional<std::string_view>(text);
}

/** One server of etcd. Must not outlive its status. */
class EndpointStatus {
public:
    explicit EndpointStatus(const axm_endpoint_t *endpoint) : endpoint_(endpoint) {}

    std::string_view url() const noexcept { return endpoint_->url; }
    /** Returns false while the endpoint is quarantined until it answers again. */
    bool is_healthy() const noexcept { return endpoint_->is_healthy; }
    uint64_t answered() const noexcept { return endpoint_->answered; }
    uint64_t failed() const noexcept { return endpoint_->failed; }
    std::optional<std::string_view> last_error() const noexcept
    {
        return optional_text(endpoint_->last_error);
    }

private:
    const axm_endpoint_t *endpoint_;
};

/** The registration of a worker. Must not outlive its status. */
class RegistrationStatus {
public:
    explicit RegistrationStatus(const axm_registration_t *registration)
        : registration_(registration)
    {
    }

    std::string_view identity() const noexcept { return registration_->identity; }
    RegistrationState state() const noexcept
    {
        return static_cast<RegistrationState>(registration_->state);
    }
    /** Returns the id of the lease in etcd; 0 without a lease. */
    int64_t lease() const noexcept { return registration_->lease; }
    std::chrono::milliseconds lease_left() const noexcept
    {
        return std::chrono::milliseconds(registration_->lease_left_ms);
    }
    /** Returns the number of leases; more than 1 if the worker was registered again. */
    uint64_t leases() const noexcept { return registration_->leases; }
    uint64_t late_renewals() const noexcept { return registration_->late_renewals; }
    /** Returns whether another process has registered the same identity. */
    bool is_displaced() const noexcept { return registration_->is_displaced; }

private:
    const axm_registration_t *registration_;
};

/** The counters of a status, under the names that they have in metrics. */
using Counters = axm_counters_t;

/** The status of a membership at one moment. Copies share the same status. */
class Status {
public:
    /** Takes over a status. */
    explicit Status(axm_status_t *status) : status_(status, axm_status_free) {}

    uint64_t version() const noexcept { return axm_status_version(status_.get()); }
    /** Returns for how long the list has not been compared with etcd; empty without a list. */
    std::optional<std::chrono::milliseconds> view_age() const noexcept
    {
        const int64_t age = axm_status_view_age_ms(status_.get());
        return age < 0 ? std::nullopt : std::optional(std::chrono::milliseconds(age));
    }
    Counters counters() const
    {
        axm_counters_t counters = AXM_COUNTERS_INIT;
        check(axm_status_counters(status_.get(), &counters));
        return counters;
    }

    /* What would point into a temporary status does not compile. */
    std::optional<std::string_view> view_error() const && = delete;
    /** Returns why the list cannot be updated at present; empty if it is updated. */
    std::optional<std::string_view> view_error() const & noexcept
    {
        return optional_text(axm_status_view_error(status_.get()));
    }
    std::vector<EndpointStatus> endpoints() const && = delete;
    std::vector<EndpointStatus> endpoints() const &
    {
        std::vector<EndpointStatus> endpoints;
        const std::size_t count = axm_status_endpoint_count(status_.get());
        for (std::size_t i = 0; i < count; ++i) {
            endpoints.emplace_back(axm_status_endpoint(status_.get(), i));
        }
        return endpoints;
    }
    std::vector<RegistrationStatus> registrations() const && = delete;
    /** Returns the workers of the cluster that this process keeps registered. */
    std::vector<RegistrationStatus> registrations() const &
    {
        std::vector<RegistrationStatus> registrations;
        const std::size_t count = axm_status_registration_count(status_.get());
        for (std::size_t i = 0; i < count; ++i) {
            registrations.emplace_back(axm_status_registration(status_.get(), i));
        }
        return registrations;
    }
    std::optional<RegistrationStatus> registration(std::string_view identity) const && = delete;
    /** Returns the registration of a worker, if this process has registered the worker. */
    std::optional<RegistrationStatus> registration(std::string_view identity) const &
    {
        const axm_registration_t *found = nullptr;
        check(axm_status_find_registration(status_.get(), c_text(identity).c_str(), &found));
        return found == nullptr ? std::nullopt : std::optional(RegistrationStatus(found));
    }

private:
    std::shared_ptr<axm_status_t> status_;
};

/** A change of one worker. */
struct Change {
    ChangeKind kind;
    /** The worker as it is now; if it was removed, as it was. Lives while the callback runs. */
    Member member;
    /** The registered workers after the change. */
    Snapshot snapshot;
};

/**
 * Ends when it is destroyed, or when another one is assigned to it. That waits for a running call,
 * unless the callback itself does it: the running call is then the last one, and what the callback
 * holds lives until it returns.
 */
class Subscription {
public:
    using Callback = std::function<void(const Change &)>;

    /** An exception that the callback throws ends the program. */
    Subscription(const axm_membership_t *membership, Callback callback)
        : subscriber_(std::make_shared<Subscriber>(std::move(callback))),
          subscription_(nullptr, axm_subscription_free)
    {
        if (!subscriber_->callback) {
            throw std::invalid_argument("the callback of a subscription is empty");
        }
        axm_subscription_t *subscription = nullptr;
        check(axm_membership_subscribe(membership, &Subscription::call, subscriber_.get(),
                                       &subscription));
        subscription_.reset(subscription);
    }

    Subscription(Subscription &&) noexcept = default;
    Subscription &operator=(Subscription &&other) noexcept
    {
        if (this != &other) {
            /* The end of the old subscription first: until then, its callback may be called. */
            subscription_.reset();
            subscriber_ = std::move(other.subscriber_);
            subscription_ = std::move(other.subscription_);
        }
        return *this;
    }

private:
    struct Subscriber : std::enable_shared_from_this<Subscriber> {
        explicit Subscriber(Callback function) : callback(std::move(function)) {}
        Callback callback;
    };

    static void call(void *user_data, axm_change_kind_t kind, const axm_member_t *member,
                     const axm_snapshot_t *snapshot) noexcept
    {
        /* The callback may end its own subscription, and must live until it returns. */
        const std::shared_ptr<Subscriber> subscriber =
            static_cast<Subscriber *>(user_data)->shared_from_this();
        subscriber->callback(Change{static_cast<ChangeKind>(kind), Member(member),
                                    Snapshot(axm_snapshot_retain(snapshot))});
    }

    /* Freed after the subscription, which is declared below it. */
    std::shared_ptr<Subscriber> subscriber_;
    std::unique_ptr<axm_subscription_t, decltype(&axm_subscription_free)> subscription_;
};

/** A message of the library. */
struct LogRecord {
    LogLevel level;
    /** The module of the library that logs. Lives as long as the callback runs. */
    std::string_view target;
    std::string_view message;
};

/**
 * Passes the messages of the library to a callback until it is destroyed. A process has one such
 * object at a time: a second one replaces the callback, and the end of either ends the messages.
 * The callback runs on any thread, on several at the same time, and must not call the library (see
 * axm_log_set). An exception that it throws ends the program.
 */
class Log {
public:
    using Callback = std::function<void(const LogRecord &)>;

    Log(LogLevel level, Callback callback)
        : callback_(std::make_unique<Callback>(std::move(callback)))
    {
        if (!*callback_) {
            throw std::invalid_argument("the callback of a log is empty");
        }
        check(axm_log_set(&Log::call, callback_.get(), static_cast<axm_log_level_t>(level)));
    }

    Log(const Log &) = delete;
    Log &operator=(const Log &) = delete;

    ~Log()
    {
        axm_error_t *error = axm_log_set(nullptr, nullptr, AXM_LOG_OFF);
        if (axm_error_kind(error) == AXM_ERROR_INVALID_ARGUMENT) {
            /* The callback itself does this, and is still called. */
            static_cast<void>(callback_.release());
        }
        axm_error_free(error);
    }

private:
    static void call(void *user_data, axm_log_level_t level, const char *target,
                     const char *message) noexcept
    {
        (*static_cast<Callback *>(user_data))({static_cast<LogLevel>(level), target, message});
    }

    std::unique_ptr<Callback> callback_;
};

/** Access to one cluster. Closed when it is destroyed. */
class Membership {
public:
    explicit Membership(const Config &config) : membership_(nullptr, axm_membership_free)
    {
        axm_membership_t *membership = nullptr;
        check(axm_membership_open(config.get(), &membership));
        membership_.reset(membership);
    }

    /** Registers a worker and keeps it registered. */
    void join(const Worker &worker, const JoinOptions &options = {})
    {
        const axm_worker_t c_worker = worker.get();
        axm_join_options_t c_options = AXM_JOIN_OPTIONS_INIT;
        if (options.k8s) {
            c_options.k8s = *options.k8s ? AXM_K8S_YES : AXM_K8S_NO;
        }
        check(axm_membership_join(membership_.get(), &c_worker, &c_options));
    }
    /** Ends the registration of one worker of this process. */
    void leave(std::string_view identity)
    {
        check(axm_membership_leave_worker(membership_.get(), c_text(identity).c_str()));
    }
    /** Ends the registrations that this membership made. */
    void leave() { check(axm_membership_leave(membership_.get())); }
    /** Leaves and closes. Throws if leaving fails, which the destructor does not report. */
    void close() { check(axm_membership_close(membership_.get())); }
    /** Removes a lost worker from the cluster. */
    void remove(std::string_view identity)
    {
        check(axm_membership_remove(membership_.get(), c_text(identity).c_str()));
    }

    /** Lists workers. */
    Snapshot list(MemberFilter filter = MemberFilter::All) const
    {
        axm_snapshot_t *snapshot = nullptr;
        check(axm_membership_list(membership_.get(), static_cast<axm_filter_t>(filter), &snapshot));
        return Snapshot(snapshot);
    }

    /** Returns the version that a list would have now; 0 if it would block or fail. */
    uint64_t version() const noexcept { return axm_membership_version(membership_.get()); }

    /** Waits for a list, of any age, with a greater version; empty after the timeout. */
    std::optional<Snapshot> wait_for_change(uint64_t version, std::chrono::milliseconds timeout,
                                            MemberFilter filter = MemberFilter::All) const
    {
        axm_snapshot_t *snapshot = nullptr;
        check(axm_membership_wait_for_change(membership_.get(), static_cast<axm_filter_t>(filter),
                                             version, timeout.count(), &snapshot));
        return snapshot == nullptr ? std::nullopt : std::optional<Snapshot>(Snapshot(snapshot));
    }

    /** Returns the table of all workers that "alluxio info nodes" prints. */
    std::string show() const
    {
        char *table = nullptr;
        check(axm_membership_show(membership_.get(), &table));
        const std::unique_ptr<char, decltype(&axm_string_free)> owned(table, axm_string_free);
        return owned.get();
    }

    /** Calls a callback for each worker that is listed, then for each change. */
    [[nodiscard]] Subscription subscribe(Subscription::Callback callback) const
    {
        return Subscription(membership_.get(), std::move(callback));
    }

    /** Returns the status, without asking etcd. */
    Status status() const
    {
        axm_status_t *status = nullptr;
        check(axm_membership_status(membership_.get(), &status));
        return Status(status);
    }

    axm_membership_t *get() const noexcept { return membership_.get(); }

private:
    std::unique_ptr<axm_membership_t, decltype(&axm_membership_free)> membership_;
};

} // namespace alluxio::membership

#endif
