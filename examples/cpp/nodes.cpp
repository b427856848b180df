/*
 * Lists the workers of an Alluxio cluster; with --live, those that are live.
 *
 *   c++ -std=c++17 nodes.cpp $(pkg-config --cflags --libs alluxio-membership) -o nodes
 *   ./nodes -c /opt/alluxio/conf/alluxio-site.properties
 */
#include <alluxio_membership.hpp>

#include <iostream>
#include <string>

namespace am = alluxio::membership;

int main(int argc, char **argv)
{
    std::string file = "conf/alluxio-site.properties";
    bool live = false;
    for (int i = 1; i < argc; i++) {
        const std::string argument = argv[i];
        if (argument == "--live") {
            live = true;
        } else if (argument == "-c" && i + 1 < argc) {
            file = argv[++i];
        } else {
            std::cerr << "Usage: nodes [-c site.properties] [--live]\n";
            return 2;
        }
    }
    try {
        const am::Membership membership(am::Config().load_file(file));
        if (!live) {
            std::cout << membership.show();
            return 0;
        }
        for (const am::Member &member : membership.list(am::MemberFilter::Live)) {
            std::cout << member.identity() << '\t' << member.host() << ':' << member.rpc_port()
                      << '\n';
        }
    } catch (const am::Error &error) {
        std::cerr << "nodes: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
