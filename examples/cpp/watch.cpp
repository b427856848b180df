/*
 * Prints the changes of the workers of a cluster, until standard input ends.
 *
 *   c++ -std=c++17 watch.cpp $(pkg-config --cflags --libs alluxio-membership) -o watch
 *   ./watch /opt/alluxio/conf/alluxio-site.properties
 */
#include <alluxio_membership.hpp>

#include <iostream>

namespace am = alluxio::membership;

static const char *name_of(am::ChangeKind kind)
{
    switch (kind) {
    case am::ChangeKind::Added:
        return "added";
    case am::ChangeKind::Removed:
        return "removed";
    case am::ChangeKind::Live:
        return "live";
    case am::ChangeKind::Lost:
        return "lost";
    case am::ChangeKind::Moved:
        return "moved";
    }
    return "changed"; /* a later version of the library may have more kinds */
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::cerr << "Usage: watch SITE_PROPERTIES\n";
        return 2;
    }
    try {
        const am::Membership membership(am::Config().load_file(argv[1]));
        const am::Subscription subscription = membership.subscribe([](const am::Change &change) {
            std::cout << name_of(change.kind) << '\t' << change.member.identity() << '\t'
                      << change.member.host() << std::endl;
        });
        while (std::cin.get() != std::istream::traits_type::eof()) {
        }
    } catch (const am::Error &error) {
        std::cerr << "watch: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
