// What ioctls cannot ask or set of interfaces: rtnetlink's messages, one at a time.
#define _GNU_SOURCE
#include "Network.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

// The kernel's answers to requests of this file fit; a link's message is some 2 KiB.
enum { ANSWER_BYTES = 16384 };

struct request {
    struct nlmsghdr header;
    struct ifinfomsg link;
    char attributes[128];
};

static void begin(struct request *request, uint16_t type, uint16_t flags, uint8_t family, unsigned int index) {
    memset(request, 0, sizeof *request);
    request->header.nlmsg_len = NLMSG_LENGTH(sizeof request->link);
    request->header.nlmsg_type = type;
    request->header.nlmsg_flags = NLM_F_REQUEST | flags;
    request->link.ifi_family = family;
    request->link.ifi_index = (int)index;
}

// Appends an attribute; what it needs always fits `attributes`.
static struct rtattr *append(struct request *request, uint16_t type, const void *bytes, size_t count) {
    struct rtattr *attribute = (void *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(count);
    if (count > 0) memcpy(RTA_DATA(attribute), bytes, count);
    request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
    return attribute;
}

// Sends the request and receives the first message of the answer; its length, or -1 with errno.
static ssize_t ask(struct request *request, void *answer, size_t room) {
    int link = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (link < 0) return -1;
    ssize_t count = send(link, request, request->header.nlmsg_len, 0);
    if (count >= 0) do count = recv(link, answer, room, 0); while (count < 0 && errno == EINTR);
    int saved = errno;
    close(link);
    errno = saved;
    if (count < 0) return -1;
    struct nlmsghdr *header = answer;
    if ((size_t)count < sizeof *header || header->nlmsg_len > (size_t)count) {
        errno = EBADMSG;
        return -1;
    }
    if (header->nlmsg_type == NLMSG_ERROR) {
        struct nlmsgerr *error = NLMSG_DATA(header);
        if (error->error != 0) {
            errno = -error->error;
            return -1;
        }
    }
    return count;
}

static struct rtattr *find(struct rtattr *attribute, int length, uint16_t type) {
    for (; RTA_OK(attribute, length); attribute = RTA_NEXT(attribute, length)) {
        if ((attribute->rta_type & NLA_TYPE_MASK) == type) return attribute;
    }
    return NULL;
}

// One attribute of an interface, in `answer`; NULL with errno 0 if it has none such, or with another errno.
static struct rtattr *link_attribute(const char *name, uint16_t type, char answer[ANSWER_BYTES]) {
    struct request request;
    unsigned int index = if_nametoindex(name);
    if (index == 0) return NULL;
    begin(&request, RTM_GETLINK, 0, AF_UNSPEC, index);
    if (ask(&request, answer, ANSWER_BYTES) < 0) return NULL;
    struct nlmsghdr *header = (void *)answer;
    errno = 0;
    return find(IFLA_RTA(NLMSG_DATA(header)), (int)IFLA_PAYLOAD(header), type);
}

int64_t causeway_interface_master(const char *name) {
    _Alignas(struct nlmsghdr) char answer[ANSWER_BYTES];
    struct rtattr *master = link_attribute(name, IFLA_MASTER, answer);
    if (master == NULL) return errno == 0 ? 0 : -1;
    return *(uint32_t *)RTA_DATA(master);
}

int causeway_bridge_filters_vlans(const char *bridge) {
    _Alignas(struct nlmsghdr) char answer[ANSWER_BYTES];
    struct rtattr *info = link_attribute(bridge, IFLA_LINKINFO, answer);
    if (info == NULL && errno != 0) return -1;
    struct rtattr *kind = info ? find(RTA_DATA(info), (int)RTA_PAYLOAD(info), IFLA_INFO_KIND) : NULL;
    struct rtattr *data = info ? find(RTA_DATA(info), (int)RTA_PAYLOAD(info), IFLA_INFO_DATA) : NULL;
    if (kind == NULL || data == NULL || strncmp(RTA_DATA(kind), "bridge", RTA_PAYLOAD(kind)) != 0) {
        errno = ENOTSUP;
        return -1;
    }
    struct rtattr *filtering = find(RTA_DATA(data), (int)RTA_PAYLOAD(data), IFLA_BR_VLAN_FILTERING);
    if (filtering == NULL) {
        errno = ENOTSUP;
        return -1;
    }
    return *(uint8_t *)RTA_DATA(filtering) != 0;
}

int causeway_port_vlans(const char *name, uint16_t first, uint16_t last, int is_primary, int is_untagged, int is_added) {
    struct request request;
    char answer[ANSWER_BYTES];
    unsigned int index = if_nametoindex(name);
    if (index == 0) return -1;
    begin(&request, is_added ? RTM_SETLINK : RTM_DELLINK, NLM_F_ACK, AF_BRIDGE, index);
    struct rtattr *all = append(&request, IFLA_AF_SPEC, NULL, 0);
    struct bridge_vlan_info vlan = {.vid = first};
    if (is_primary) vlan.flags |= BRIDGE_VLAN_INFO_PVID;
    if (is_untagged) vlan.flags |= BRIDGE_VLAN_INFO_UNTAGGED;
    if (first == last) {
        append(&request, IFLA_BRIDGE_VLAN_INFO, &vlan, sizeof vlan);
    } else {
        uint16_t flags = vlan.flags;
        vlan.flags = flags | BRIDGE_VLAN_INFO_RANGE_BEGIN;
        append(&request, IFLA_BRIDGE_VLAN_INFO, &vlan, sizeof vlan);
        vlan.flags = flags | BRIDGE_VLAN_INFO_RANGE_END;
        vlan.vid = last;
        append(&request, IFLA_BRIDGE_VLAN_INFO, &vlan, sizeof vlan);
    }
    all->rta_len = (uint16_t)((char *)&request + request.header.nlmsg_len - (char *)all);
    return ask(&request, answer, sizeof answer) < 0 ? -1 : 0;
}

int causeway_link_watch(void) {
    int watch = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (watch < 0) return -1;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    if (bind(watch, (struct sockaddr *)&address, sizeof address) < 0) {
        int saved = errno;
        close(watch);
        errno = saved;
        return -1;
    }
    // Not allowed to everybody; then the others' are not heard of.
    int on = 1;
    setsockopt(watch, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof on);
    return watch;
}

int causeway_link_changes(int watch, uint32_t *indices, int room) {
    _Alignas(struct nlmsghdr) char messages[ANSWER_BYTES];
    ssize_t count;
    do count = recv(watch, messages, sizeof messages, 0); while (count < 0 && errno == EINTR);
    if (count < 0) return errno == EAGAIN ? 0 : -1;
    int found = 0;
    unsigned int left = (unsigned int)count;
    for (struct nlmsghdr *header = (void *)messages; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
        if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK) continue;
        struct ifinfomsg *link = NLMSG_DATA(header);
        if (found < room) indices[found++] = (uint32_t)link->ifi_index;
    }
    if (found == 0) {
        // There was something, though of no interest: whoever asks again learns that there is nothing more.
        errno = ENOMSG;
        return -1;
    }
    return found;
}
