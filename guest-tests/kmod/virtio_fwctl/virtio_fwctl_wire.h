/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Wire format of the virtio firmware mailbox device (docs/virtio-fwctl.md).
 */
#ifndef VIRTIO_FWCTL_WIRE_H
#define VIRTIO_FWCTL_WIRE_H

#include <linux/types.h>

/* Until an id is assigned. */
#define VIRTIO_ID_FWCTL		38

#define VFW_MAGIC		0x54435746	/* "FWCT" */
#define VFW_VERSION		1
#define VFW_DEVICE_MLX5		1

/* Scope of the driver's own commands. */
#define VFW_SCOPE_DRIVER	0xff

struct vfw_config {
	__le32 magic;
	__le32 version;
	__le32 device_type;
	__le32 max_in;
	__le32 max_out;
	__le32 max_in_flight;
	__u8 reserved[8];
};

struct vfw_request {
	__u8 scope;
	__u8 reserved0;
	__le16 uid;
	__le32 in_len;
	__le32 out_len;
	__u8 reserved1[12];
};

enum vfw_status {
	VFW_OK		= 0,
	VFW_MALFORMED	= 1,
	VFW_TOO_LONG	= 2,
	VFW_NO_ROOM	= 3,
	VFW_DENIED	= 4,
	VFW_BAD_UID	= 5,
	VFW_BUSY	= 6,
	VFW_RESET	= 7,
};

struct vfw_response {
	__u8 status;
	__u8 reserved0[3];
	__le32 out_len;
	__u8 reserved1[8];
};

/* struct vfw_event::flags */
#define VFW_EVENT_OVERFLOW	0x1

struct vfw_event {
	__le64 sequence;
	__u8 flags;
	__u8 type;
	__u8 sub_type;
	__u8 reserved0[5];
	__u8 data[28];
	__u8 reserved1[4];
};

static_assert(sizeof(struct vfw_config) == 32);
static_assert(sizeof(struct vfw_request) == 24);
static_assert(sizeof(struct vfw_response) == 16);
static_assert(sizeof(struct vfw_event) == 48);

#endif
