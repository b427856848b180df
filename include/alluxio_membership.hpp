/**
 * \mainpage alluxio-membership for C++
 *
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

/** The worker membership of an Alluxio cluster. */
namespace alluxio::membership {

/** What went wrong. Later versions may add kinds, so a switch needs a default. */
enum class ErrorKind : int32_t {
    /** An argument cannot be used, or the worker is in a state that the call does not allow. */
    InvalidArgument = AXM_ERROR_INVALID_ARGUMENT,
    /** A property has a value that cannot be used. */
    InvalidConfig = AXM_ERROR_INVALID_CONFIG,
    /** A property without a default is not set. */
    MissingConfig = AXM_ERROR_MISSING_CONFIG,
    /** A file that the configuration names does not exist. */
    NotFound = AXM_ERROR_NOT_FOUND,
    /** Another worker has this identity. */
    AlreadyExists = AXM_ERROR_ALREADY_EXISTS,
    /** A stored record that the call needs cannot be read. */
    Corrupt = AXM_ERROR_CORRUPT,
    /** etcd did not answer, or not in time. The same call may succeed later. */
    Unavailable = AXM_ERROR_UNAVAILABLE,
    /** etcd refused the user name or the password. */
    Unauthenticated = AXM_ERROR_UNAUTHENTICATED,
    /** The etcd user lacks a permission. */
    PermissionDenied = AXM_ERROR_PERMISSION_DENIED,
    /** A file could not be read. */
    Io = AXM_ERROR_IO,
    /** The membership was closed before or during the call. */
    Closed = AXM_ERROR_CLOSED,
    /** The process was forked after its parent had opened a membership. */
    Forked = AXM_ERROR_FORKED,
    /** A bug in the library. */
    Internal = AXM_ERROR_INTERNAL,
    /** The system grants this process no more threads or file descriptors. */
    ResourceExhausted = AXM_ERROR_RESOURCE_EXHAUSTED
};

/** Which workers a caller asks for. */
enum class MemberFilter : int32_t {
    /** All registered workers. */
    All = AXM_FILTER_ALL,
    /** Live workers. */
    Live = AXM_FILTER_LIVE,
    /** Lost workers. */
    Lost = AXM_FILTER_LOST
};

/** The state of a worker. */
enum class WorkerState : int32_t {
    /** The worker renews its lease. */
    Live = AXM_STATE_LIVE,
    /** The worker is registered, but its lease has ended. */
    Lost = AXM_STATE_LOST
};

/** What happened to a worker. Later versions may add kinds, so a switch needs a default. */
enum class ChangeKind : int32_t {
    /** The worker is new. */
    Added = AXM_CHANGE_ADDED,
    /** The worker is no longer registered. */
    Removed = AXM_CHANGE_REMOVED,
    /** The worker was lost and is live again. */
    Live = AXM_CHANGE_LIVE,
    /** The worker was live and is lost. */
    Lost = AXM_CHANGE_LOST,
    /** The worker has another address. */
    Moved = AXM_CHANGE_MOVED
};

/** The state of a registration. */
enum class RegistrationState : int32_t {
    /** The first registration is running. */
    Joining = AXM_REGISTRATION_JOINING,
    /** The lease is renewed in time. */
    Registered = AXM_REGISTRATION_REGISTERED,
    /** No renewal was answered for two thirds of the lease. */
    Suspect = AXM_REGISTRATION_SUSPECT,
    /** The lease has ended, or may have ended. Others may list the worker as lost. */
    Lost = AXM_REGISTRATION_LOST,
    /** The lease has ended or a key is gone. The library writes the keys again. */
    Rejoining = AXM_REGISTRATION_REJOINING,
    /** The registration ended on purpose. */
    Left = AXM_REGISTRATION_LEFT
};

/** How important a message is. */
enum class LogLevel : int32_t {
    /** No messages. */
    Off = AXM_LOG_OFF,
    /** A bug of the library. */
    Error = AXM_LOG_ERROR,
    /** The library lost something, such as a connection or a lease. */
    Warn = AXM_LOG_WARN,
    /** Something changed as expected. */
    Info = AXM_LOG_INFO,
    /** Detail for debugging. */
    Debug = AXM_LOG_DEBUG,
    /** Trace-level detail, such as each request. */
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

    /** Returns what went wrong. */
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
    /** Makes an empty configuration. */
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

    /** Returns the configuration for the C API. It belongs to this object. */
    const axm_config_t *get() const noexcept { return config_.get(); }

private:
    std::unique_ptr<axm_config_t, decltype(&axm_config_free)> config_;
};

/**
 * A worker to register, built step by step. A port that is not set is 0: the worker has no such
 * port.
 *
 * \code{.cpp}
 * Worker("worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d", "host1").rpc_port(29999)
 * \endcode
 */
class Worker {
public:
    /** Makes a worker with "worker-" and a UUID, and with the host of the worker's services. */
    Worker(std::string_view identity, std::string_view host)
        : identity_(c_text(identity)), host_(c_text(host))
    {
    }

    /** Sets the host name of the worker's container. */
    Worker &container_host(std::string_view host)
    {
        container_host_ = c_text(host);
        return *this;
    }
    /** Sets the path of the domain socket for short-circuit reads. */
    Worker &domain_socket_path(std::string_view path)
    {
        domain_socket_path_ = c_text(path);
        return *this;
    }
    /** Sets the port of the RPC service. */
    Worker &rpc_port(int32_t port) { return set(&axm_worker_t::rpc_port, port); }
    /** Sets the port of the data service. */
    Worker &data_port(int32_t port) { return set(&axm_worker_t::data_port, port); }
    /** Sets the port of the secure RPC service. */
    Worker &secure_rpc_port(int32_t port) { return set(&axm_worker_t::secure_rpc_port, port); }
    /** Sets the port of the Netty data service. */
    Worker &netty_data_port(int32_t port) { return set(&axm_worker_t::netty_data_port, port); }
    /** Sets the port of the web server. */
    Worker &web_port(int32_t port) { return set(&axm_worker_t::web_port, port); }
    /** Sets the port of the HTTP server. */
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
    /** Refers to a member of the C API. */
    explicit Member(const axm_member_t *member) : member_(member) {}

    /** Returns the identity, such as "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d". */
    std::string_view identity() const noexcept { return worker().identity; }
    /** Returns the host name or IP address of the worker's services. */
    std::string_view host() const noexcept { return worker().host; }
    /** Returns the host name of the worker's container; empty if there is none. */
    std::string_view container_host() const noexcept { return worker().container_host; }
    /** Returns the path of the domain socket for short-circuit reads; empty if there is none. */
    std::string_view domain_socket_path() const noexcept { return worker().domain_socket_path; }
    /** Returns the port of the RPC service; 0 if there is none. */
    int32_t rpc_port() const noexcept { return worker().rpc_port; }
    /** Returns the port of the data service; 0 if there is none. */
    int32_t data_port() const noexcept { return worker().data_port; }
    /** Returns the port of the secure RPC service; 0 if there is none. */
    int32_t secure_rpc_port() const noexcept { return worker().secure_rpc_port; }
    /** Returns the port of the Netty data service; 0 if there is none. */
    int32_t netty_data_port() const noexcept { return worker().netty_data_port; }
    /** Returns the port of the web server; 0 if there is none. */
    int32_t web_port() const noexcept { return worker().web_port; }
    /** Returns the port of the HTTP server; 0 if there is none. */
    int32_t http_server_port() const noexcept { return worker().http_server_port; }
    /** Returns whether the worker is live or lost. */
    WorkerState state() const noexcept
    {
        return static_cast<WorkerState>(axm_member_state(member_));
    }
    /** Returns whether the worker is live. */
    bool is_live() const noexcept { return state() == WorkerState::Live; }
    /** Returns all fields of the worker. */
    const axm_worker_t &worker() const noexcept { return *axm_member_worker(member_); }

private:
    const axm_member_t *member_;
};

/** A key of the cluster that is not listed. Must not outlive the snapshot. */
struct SkippedRecord {
    /** The key in etcd. */
    std::string_view key;
    /** Why the record cannot be read. */
    std::string_view reason;
};

/** Workers at one moment. Copies share the same snapshot. */
class Snapshot {
public:
    /** Visits the workers in the order of the snapshot. Must not outlive the snapshot. */
    class Iterator {
    public:
        /** A dereference makes a Member, so the iterator is an input iterator. */
        using iterator_category = std::input_iterator_tag;
        /** The type of the elements. */
        using value_type = Member;
        /** The type of a distance. */
        using difference_type = std::ptrdiff_t;
        /** The elements have no address. */
        using pointer = void;
        /** The result of a dereference. */
        using reference = Member;

        /** Starts at an index of a snapshot. */
        Iterator(const axm_snapshot_t *snapshot, std::size_t index)
            : snapshot_(snapshot), index_(index)
        {
        }
        /** Returns the worker at this place. */
        Member operator*() const { return Member(axm_snapshot_member(snapshot_, index_)); }
        /** Moves to the next worker. */
        Iterator &operator++()
        {
            ++index_;
            return *this;
        }
        /** Moves to the next worker, and returns the place before. */
        Iterator operator++(int)
        {
            Iterator before = *this;
            ++index_;
            return before;
        }
        /** Compares the places of two iterators of one snapshot. */
        bool operator==(const Iterator &other) const { return index_ == other.index_; }
        /** Compares the places of two iterators of one snapshot. */
        bool operator!=(const Iterator &other) const { return index_ != other.index_; }

    private:
        const axm_snapshot_t *snapshot_;
        std::size_t index_;
    };

    /** Takes over a snapshot of which the caller is an owner. */
    explicit Snapshot(axm_snapshot_t *snapshot) : snapshot_(snapshot, axm_snapshot_release) {}

    /** Returns the number of workers. */
    std::size_t size() const noexcept { return axm_snapshot_count(snapshot_.get()); }
    /** Returns the place of the first worker. */
    Iterator begin() const { return Iterator(snapshot_.get(), 0); }
    /** Returns the place after the last worker. */
    Iterator end() const { return Iterator(snapshot_.get(), size()); }
    /** Returns the number of the list, which grows with each change. */
    uint64_t version() const noexcept { return axm_snapshot_version(snapshot_.get()); }
    /** Returns the revision of etcd that the snapshot shows; 0 for a hosts file. */
    int64_t revision() const noexcept { return axm_snapshot_revision(snapshot_.get()); }
    /** Returns the time since etcd was last known to have exactly these workers. */
    std::chrono::milliseconds age() const noexcept
    {
        return std::chrono::milliseconds(axm_snapshot_age_ms(snapshot_.get()));
    }

    /** Deleted for a temporary snapshot, because the result would outlive it. */
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

    /** Deleted for a temporary snapshot, because the result would outlive it. */
    std::optional<Member> find(std::string_view identity) const && = delete;
    /** Returns the worker of an identity, if the snapshot contains it. */
    std::optional<Member> find(std::string_view identity) const &
    {
        const axm_member_t *member = nullptr;
        check(axm_snapshot_find(snapshot_.get(), c_text(identity).c_str(), &member));
        return member == nullptr ? std::nullopt : std::optional<Member>(Member(member));
    }

    /** Returns the snapshot for the C API. It belongs to this object. */
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
    /** Refers to an endpoint of the C API. */
    explicit EndpointStatus(const axm_endpoint_t *endpoint) : endpoint_(endpoint) {}

    /** Returns "http://host:port", or "https://host:port" with TLS. */
    std::string_view url() const noexcept { return endpoint_->url; }
    /** Returns false while the endpoint is quarantined until it answers again. */
    bool is_healthy() const noexcept { return endpoint_->is_healthy; }
    /** Returns the number of requests that the endpoint answered. */
    uint64_t answered() const noexcept { return endpoint_->answered; }
    /** Returns the number of requests to the endpoint that failed. */
    uint64_t failed() const noexcept { return endpoint_->failed; }
    /** Returns why the endpoint is quarantined, else why its last failed request failed. */
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
    /** Refers to a registration of the C API. */
    explicit RegistrationStatus(const axm_registration_t *registration)
        : registration_(registration)
    {
    }

    /** Returns the identity of the worker. */
    std::string_view identity() const noexcept { return registration_->identity; }
    /** Returns the state of the registration. */
    RegistrationState state() const noexcept
    {
        return static_cast<RegistrationState>(registration_->state);
    }
    /** Returns the id of the lease in etcd; 0 without a lease. */
    int64_t lease() const noexcept { return registration_->lease; }
    /** Returns the time until the lease ends unless it is renewed. */
    std::chrono::milliseconds lease_left() const noexcept
    {
        return std::chrono::milliseconds(registration_->lease_left_ms);
    }
    /** Returns the number of leases; more than 1 if the worker was registered again. */
    uint64_t leases() const noexcept { return registration_->leases; }
    /** Returns how often no renewal was answered for two thirds of the lease. */
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

    /** Returns the version of the list in memory; 0 before the first listing. */
    uint64_t version() const noexcept { return axm_status_version(status_.get()); }
    /** Returns for how long the list has not been compared with etcd; empty without a list. */
    std::optional<std::chrono::milliseconds> view_age() const noexcept
    {
        const int64_t age = axm_status_view_age_ms(status_.get());
        return age < 0 ? std::nullopt : std::optional(std::chrono::milliseconds(age));
    }
    /** Returns the counters. */
    Counters counters() const
    {
        axm_counters_t counters = AXM_COUNTERS_INIT;
        check(axm_status_counters(status_.get(), &counters));
        return counters;
    }

    /** Deleted for a temporary status, because the result would outlive it. */
    std::optional<std::string_view> view_error() const && = delete;
    /** Returns why the list cannot be updated at present; empty if it is updated. */
    std::optional<std::string_view> view_error() const & noexcept
    {
        return optional_text(axm_status_view_error(status_.get()));
    }
    /** Deleted for a temporary status, because the result would outlive it. */
    std::vector<EndpointStatus> endpoints() const && = delete;
    /** Returns the endpoints of etcd in the order of the configuration. */
    std::vector<EndpointStatus> endpoints() const &
    {
        std::vector<EndpointStatus> endpoints;
        const std::size_t count = axm_status_endpoint_count(status_.get());
        for (std::size_t i = 0; i < count; ++i) {
            endpoints.emplace_back(axm_status_endpoint(status_.get(), i));
        }
        return endpoints;
    }
    /** Deleted for a temporary status, because the result would outlive it. */
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
    /** Deleted for a temporary status, because the result would outlive it. */
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
    /** What happened to the worker. */
    ChangeKind kind;
    /** The worker as it is now; if it was removed, as it was. Lives while the callback runs. */
    Member member;
    /** The registered workers after the change. */
    Snapshot snapshot;
};

/**
 * Calls a callback for each change. A subscription ends when it is destroyed, or when another
 * subscription is assigned to it.
 *
 * The end waits for a running call of the callback. If the callback itself ends its subscription,
 * that call is the last one, and the captures of the callback live until it returns.
 */
class Subscription {
public:
    /** The type of the callback. */
    using Callback = std::function<void(const Change &)>;

    /**
     * Subscribes to the changes of a membership. An exception that the callback throws ends the
     * program.
     */
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

    /** Takes over a subscription. */
    Subscription(Subscription &&) noexcept = default;
    /** Ends this subscription, and takes over another one. */
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
    /** How important the message is. */
    LogLevel level;
    /** The module of the library that logs. Lives as long as the callback runs. */
    std::string_view target;
    /** The message. Lives as long as the callback runs. */
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
    /** The type of the callback. */
    using Callback = std::function<void(const LogRecord &)>;

    /** Passes messages of this level, and more important messages, to the callback. */
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

    /** Ends the messages. Waits for running calls of the callback. */
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
    /** Opens the cluster that a configuration names. Does not wait for the network. */
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

    /** Returns the membership for the C API. It belongs to this object. */
    axm_membership_t *get() const noexcept { return membership_.get(); }

private:
    std::unique_ptr<axm_membership_t, decltype(&axm_membership_free)> membership_;
};

} // namespace alluxio::membership

#endif
