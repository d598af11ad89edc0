/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * virtio_fwctl: what its parts share.
 */
#ifndef VIRTIO_FWCTL_H
#define VIRTIO_FWCTL_H

#include <linux/completion.h>
#include <linux/fwctl.h>
#include <linux/kref.h>
#include <linux/mlx5/device.h>
#include <linux/virtio.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "virtio_fwctl_wire.h"

#define VFW_HEADER_LEN		16	/* of an inbox and of an outbox */

/* What every inbox and every outbox begins with. */
struct mlx5_ifc_mbox_in_bits {
	u8 opcode[0x10];
	u8 uid[0x10];

	u8 reserved_at_20[0x10];
	u8 op_mod[0x10];

	u8 reserved_at_40[0x40];
};

struct mlx5_ifc_mbox_out_bits {
	u8 status[0x8];
	u8 reserved_at_8[0x18];

	u8 syndrome[0x20];

	u8 reserved_at_40[0x40];
};

struct vfw_dev;

/* What fwctl registers; lives as long as somebody has the device open. */
struct vfw_fwctl {
	struct fwctl_device fwctl;
	struct vfw_dev *vfw;
};

struct vfw_dev {
	struct virtio_device *vdev;
	struct virtqueue *cmd_vq;
	struct virtqueue *event_vq;
	spinlock_t cmd_lock;		/* cmd_vq and pending */
	struct list_head pending;	/* commands that the device holds */
	wait_queue_head_t room;		/* a command came back */
	bool broken;			/* no command will come back any more */
	bool going;			/* no new user commands */
	atomic_t users;			/* user commands that run */

	struct vfw_event *events;
	struct work_struct event_work;
	struct xarray pages;		/* page frame number to page */

	u32 max_in;
	u32 max_out;
	u32 uctx_cap;
	struct vfw_fwctl *fwctl;
};

struct vfw_uctx {
	struct fwctl_uctx uctx;
	u32 caps;
	u16 uid;
};

/*
 * A command. The waiter has a reference and the device has one, so that a
 * buffer whose waiter gave up stays until the device gives it back.
 */
struct vfw_cmd {
	struct kref ref;
	struct list_head entry;
	struct completion done;
	bool answered;
	struct vfw_request request;
	struct vfw_response response;
	void *in;
	void *out;
	u32 out_len;
	u32 used_len;
};

/* command.c: requests on the command queue */
struct vfw_cmd *vfw_exec(struct vfw_dev *vfw, u8 scope, u16 uid,
			 const void *in, u32 in_len, u32 out_len);
void vfw_cmd_put(struct vfw_cmd *cmd);
void vfw_cmd_done(struct virtqueue *vq);
void vfw_break(struct vfw_dev *vfw);
int vfw_driver_cmd(struct vfw_dev *vfw, const void *in, u32 in_len,
		   void *out, u32 out_len);

/* firmware.c: the function's life and its pages */
int vfw_bring_up(struct vfw_dev *vfw);
void vfw_bring_down(struct vfw_dev *vfw);
void vfw_page_request(struct vfw_dev *vfw, const u8 *data);
void vfw_events_lost(struct vfw_dev *vfw);
void vfw_free_pages(struct vfw_dev *vfw);

/* users.c: the fwctl device */
int vfw_register(struct vfw_dev *vfw);
void vfw_drain(struct vfw_dev *vfw);

#endif
