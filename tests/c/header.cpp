/*
 * The C++ header on a STATIC cluster of two hosts, and on an etcd with unreadable records.
 * Usage: header HOSTS_FILE ENDPOINT
 */
#include <alluxio_membership.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>
#include <type_traits>

namespace am = alluxio::membership;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            std::abort(); \
        } \
    } while (0)

/*
 * Whether code can find a worker in a temporary snapshot and use the worker after the snapshot's
 * end.
 */
template <typename Snapshot, typename = void> struct finds : std::false_type {};
template <typename Snapshot>
struct finds<Snapshot, std::void_t<decltype(std::declval<Snapshot>().find(std::string_view()))>>
    : std::true_type {};
static_assert(finds<const am::Snapshot &>::value && !finds<am::Snapshot>::value, "find");
static_assert(!std::is_copy_constructible<am::Membership>::value, "one owner");
static_assert(std::is_nothrow_move_constructible<am::Membership>::value, "which may change");
static_assert(std::is_nothrow_move_assignable<am::Subscription>::value,
              "and so may that of a subscription");

template <typename Call> static std::optional<am::ErrorKind> kind_of(Call call)
{
    try {
        call();
    } catch (const am::Error &error) {
        CHECK(std::string(error.what()).size() > 0);
        CHECK(std::string(error.name()).rfind("AXM_ERROR_", 0) == 0);
        return error.kind();
    }
    return std::nullopt;
}

/* Like above, for the texts of a status. */
template <typename Status, typename = void> struct shows_endpoints : std::false_type {};
template <typename Status>
struct shows_endpoints<Status, std::void_t<decltype(std::declval<Status>().endpoints())>>
    : std::true_type {};
static_assert(shows_endpoints<const am::Status &>::value && !shows_endpoints<am::Status>::value,
              "endpoints");

static am::Config config(const std::string &hosts_file)
{
    am::Config config;
    config.set("alluxio.worker.membership.manager.type", "STATIC")
        .set("alluxio.worker.static.membership.manager.config.file", hosts_file);
    return config;
}

static void errors(const std::string &hosts_file)
{
    CHECK(kind_of([] { am::Config().load_file("/does/not/exist"); }) == am::ErrorKind::NotFound);
    CHECK(kind_of([] { am::Membership membership((am::Config())); }).has_value());
    const am::Membership membership(config(hosts_file));
    CHECK(!kind_of([&] { membership.list().size(); }));
    CHECK(kind_of([&] {
              const am::Snapshot all = membership.list();
              all.find("nobody");
          }) == am::ErrorKind::InvalidArgument);
    bool refused = false;
    try {
        am::Config().set("key", std::string_view("a\0b", 3));
    } catch (const std::invalid_argument &) {
        refused = true;
    }
    CHECK(refused);
}

static void snapshots(const std::string &hosts_file)
{
    std::optional<am::Snapshot> kept;
    {
        am::Membership first(config(hosts_file));
        am::Membership membership(std::move(first));
        const am::Snapshot all = membership.list();
        CHECK(all.version() > 0 && all.revision() == 0 && all.age().count() == 0);
        CHECK(membership.version() == all.version());
        CHECK(!membership.wait_for_change(all.version(), std::chrono::milliseconds(1)));
        CHECK(membership.wait_for_change(0, std::chrono::milliseconds(1))->size() == 2);
        CHECK(membership.show().find("host1:29999") != std::string::npos);
        membership.leave("worker-1");
        kept = all;
        membership.close();
        membership.close();
        CHECK(kind_of([&] { membership.list(); }) == am::ErrorKind::Closed);
    }
    CHECK(kept->size() == 2 && kept->skipped().empty() && kept->skipped_total() == 0);
    const auto host1 = [](const am::Member &member) { return member.host() == "host1"; };
    const auto found = std::find_if(kept->begin(), kept->end(), host1);
    CHECK(found != kept->end() && (*found).is_live() && (*found).rpc_port() == 29999);
    CHECK(kept->find((*found).identity())->host() == "host1");
    CHECK(!kept->find("worker-7"));
}

static am::Config etcd_config(const std::string &endpoint, const std::string &cluster)
{
    am::Config config;
    config.set("alluxio.worker.membership.manager.type", "ETCD")
        .set("alluxio.etcd.endpoints", endpoint)
        .set("alluxio.cluster.name", cluster)
        .set("alluxio.membership.native.operation.timeout", "2min");
    return config;
}

/* A worker joins with all fields, appears in every kind of list, moves and is removed. */
static void a_workers_life(const std::string &endpoint)
{
    const std::string identity = "worker-00000000-0000-4000-8000-000000000001";
    am::Membership membership(etcd_config(endpoint, "cpp"));
    am::Worker worker(identity, "host1");
    worker.container_host("container1").domain_socket_path("/var/lib/domain.sock").rpc_port(1);
    worker.data_port(2).secure_rpc_port(3).netty_data_port(4).web_port(5).http_server_port(6);
    membership.join(worker);

    const am::Snapshot live = membership.list(am::MemberFilter::Live);
    const am::Member member = *live.find(identity);
    CHECK(member.identity() == identity && member.host() == "host1");
    CHECK(member.container_host() == "container1");
    CHECK(member.domain_socket_path() == "/var/lib/domain.sock");
    CHECK(member.rpc_port() == 1 && member.data_port() == 2 && member.secure_rpc_port() == 3);
    CHECK(member.netty_data_port() == 4 && member.web_port() == 5);
    CHECK(member.http_server_port() == 6 && member.worker().web_port == 5);
    CHECK(member.state() == am::WorkerState::Live);

    const am::Status status = membership.status();
    const std::vector<am::EndpointStatus> endpoints = status.endpoints();
    CHECK(endpoints.size() == 1 && endpoints[0].url() == endpoint && endpoints[0].answered() > 0);
    const am::RegistrationStatus registration = *status.registration(identity);
    CHECK(registration.identity() == identity && registration.lease() != 0);
    CHECK(registration.leases() == 1 && !registration.is_displaced());
    CHECK(registration.lease_left().count() > 0);
    CHECK(registration.state() == am::RegistrationState::Registered ||
          registration.state() == am::RegistrationState::Suspect);
    CHECK(status.registrations().size() == 1 && !status.registration("worker-7"));
    CHECK(status.counters().registrations == 1 && status.counters().listings > 0);
    CHECK(status.version() > 0 && status.view_age().has_value());

    am::Worker moved(identity, "host2");
    am::JoinOptions options;
    options.k8s = false;
    CHECK(kind_of([&] { membership.join(moved, options); }) == am::ErrorKind::AlreadyExists);
    options.k8s = true;
    membership.join(moved, options);
    membership.leave(identity);
    const std::optional<am::Snapshot> lost =
        membership.wait_for_change(0, std::chrono::minutes(1), am::MemberFilter::Lost);
    CHECK(lost->size() == 1 && (*lost->begin()).host() == "host2");
    membership.remove(identity);
    CHECK(membership.list().size() == 0);
}

/* Messages arrive only while the object lives. */
static void messages(const std::string &hosts_file)
{
    std::atomic<int> count{0};
    {
        const am::Log log(am::LogLevel::Trace, [&](const am::LogRecord &record) {
            CHECK(record.level <= am::LogLevel::Trace && record.level > am::LogLevel::Off);
            CHECK(record.target.rfind("alluxio_membership", 0) == 0 && !record.message.empty());
            ++count;
        });
        const am::Membership broken(etcd_config("http://127.0.0.1:1", "c"));
        CHECK(!broken.wait_for_change(0, std::chrono::milliseconds(1)));
        while (count == 0) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    const int before = count;
    const am::Membership membership(config(hosts_file));
    CHECK(membership.list().size() == 2 && count == before);
    bool refused = false;
    try {
        const am::Log log(am::LogLevel::Info, nullptr);
    } catch (const std::invalid_argument &) {
        refused = true;
    }
    CHECK(refused);
}

static void skipped_records(const std::string &endpoint)
{
    const am::Membership membership(etcd_config(endpoint, "c"));
    const am::Snapshot all = membership.list();
    const auto skipped = all.skipped();
    CHECK(skipped.size() == 2 && all.skipped_total() == 2);
    CHECK(skipped[0].key == "/DHT/c/AUTHORIZED/broken" && !skipped[0].reason.empty());
    CHECK(skipped[1].key == "/ServiceDiscovery/c/broken" && !skipped[1].reason.empty());
}

static void subscriptions(const std::string &hosts_file)
{
    const am::Membership membership(config(hosts_file));
    std::promise<std::size_t> both;
    std::size_t added = 0;
    const am::Subscription subscription =
        membership.subscribe([&](const am::Change &change) {
            CHECK(change.kind == am::ChangeKind::Added && !change.member.host().empty());
            if (++added == 2) {
                both.set_value(change.snapshot.size());
            }
        });
    CHECK(both.get_future().get() == 2);
}

/** A callback that reports its call, and then waits until it may return. */
struct Staying {
    std::promise<void> entered;
    std::promise<void> go_on;
    std::atomic<int> calls{0};
    std::atomic<bool> returned{false};

    am::Subscription::Callback callback()
    {
        /* The captured object shows how long the callback lives. */
        return [this, held = std::make_shared<std::string>("held")](const am::Change &) {
            if (calls++ == 0) {
                entered.set_value();
                go_on.get_future().wait();
                CHECK(*held == "held");
                returned = true;
            }
        };
    }
};

static void moved_subscriptions(const std::string &hosts_file)
{
    const am::Membership membership(config(hosts_file));
    Staying first, second;
    am::Subscription subscription = membership.subscribe(first.callback());
    first.entered.get_future().wait();
    am::Subscription other = membership.subscribe(second.callback());
    second.entered.get_future().wait();
    /* The assignment ends the first subscription, and waits for its call. */
    auto assigned = std::async(std::launch::async, [&] {
        subscription = std::move(other);
        CHECK(first.returned);
    });
    CHECK(assigned.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout);
    first.go_on.set_value();
    assigned.get();
    CHECK(first.calls <= 2);
    /* The second subscription continues in its new place, also after the end of the old object. */
    am::Subscription moved(std::move(subscription));
    am::Subscription &same = moved;
    moved = std::move(same);
    CHECK(!second.returned);
    second.go_on.set_value();
    while (second.calls < 2) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    subscription = membership.subscribe([](const am::Change &) {});
}

/*
 * A callback that destroys its subscription, or assigns another one to it, is not called again, and
 * lives until it returns.
 */
static void ended_from_inside(const std::string &hosts_file, bool assigned)
{
    const am::Membership membership(config(hosts_file));
    std::optional<am::Subscription> subscription;
    std::promise<void> subscribed;
    std::promise<void> ended;
    auto held = std::make_shared<std::string>("held");
    const std::weak_ptr<std::string> watched = held;
    int calls = 0;
    subscription.emplace(membership.subscribe([&, held = std::move(held)](const am::Change &) {
        CHECK(++calls == 1);
        subscribed.get_future().wait();
        if (assigned) {
            *subscription = membership.subscribe([](const am::Change &) {});
        } else {
            subscription.reset();
        }
        CHECK(*held == "held");
        ended.set_value();
    }));
    subscribed.set_value();
    ended.get_future().wait();
    /* The subscription's own thread destroys the callback, after the callback has returned. */
    while (!watched.expired()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(calls == 1);
}

static void empty_callback(const std::string &hosts_file)
{
    const am::Membership membership(config(hosts_file));
    bool refused = false;
    try {
        const am::Subscription subscription = membership.subscribe(nullptr);
    } catch (const std::invalid_argument &) {
        refused = true;
    }
    CHECK(refused);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    errors(argv[1]);
    snapshots(argv[1]);
    skipped_records(argv[2]);
    a_workers_life(argv[2]);
    messages(argv[1]);
    CHECK(am::version() == AXM_VERSION_STRING);
    subscriptions(argv[1]);
    moved_subscriptions(argv[1]);
    ended_from_inside(argv[1], false);
    ended_from_inside(argv[1], true);
    empty_callback(argv[1]);
    am::shutdown(std::chrono::seconds(10));
    CHECK(kind_of([&] { am::Membership membership(config(argv[1])); }) == am::ErrorKind::Closed);
    return 0;
}
