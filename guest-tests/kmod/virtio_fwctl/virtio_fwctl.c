// SPDX-License-Identifier: GPL-2.0-only
/*
 * Driver of the virtio firmware mailbox device: brings the function up as a
 * PCI driver would, gives it pages, and offers it to users through fwctl.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/fwctl.h>
#include <linux/kref.h>
#include <linux/mlx5/device.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <uapi/fwctl/mlx5.h>

#include "virtio_fwctl_scope.h"
#include "virtio_fwctl_wire.h"

#define VFW_HEADER_LEN		16	/* of an inbox and of an outbox */
#define VFW_EVENT_BUFFERS	16
#define VFW_PAGES_PER_CMD	512
#define VFW_PAGES_MAX		BIT(18)	/* the firmware's demand is bounded */
#define VFW_REMOVE_GRACE_MS	2000
#define VFW_MAX_MESSAGE		(4U << 20)	/* whatever the device says */
#define VFW_UCTX_TOOLS		0x4	/* MLX5_UCTX_OBJECT_CAP_TOOLS_RESOURCES */

enum {
	VFW_PAGES_CANT_GIVE	= 0,
	VFW_PAGES_GIVE		= 1,
	VFW_PAGES_TAKE		= 2,
};

enum {
	VFW_QUERY_BOOT_PAGES	= 1,
	VFW_QUERY_INIT_PAGES	= 2,
	VFW_QUERY_REGULAR_PAGES	= 3,
};

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

static unsigned int timeout_ms = 60000;
module_param(timeout_ms, uint, 0644);
MODULE_PARM_DESC(timeout_ms, "How long a command may take, in milliseconds (default 60000)");

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

static void vfw_cmd_free(struct kref *ref)
{
	struct vfw_cmd *cmd = container_of(ref, struct vfw_cmd, ref);

	kvfree(cmd->in);
	kvfree(cmd->out);
	kfree(cmd);
}

static void vfw_cmd_put(struct vfw_cmd *cmd)
{
	kref_put(&cmd->ref, vfw_cmd_free);
}

static struct vfw_cmd *vfw_cmd_alloc(u8 scope, u16 uid, const void *in,
				     u32 in_len, u32 out_len)
{
	struct vfw_cmd *cmd = kzalloc_obj(*cmd);

	if (!cmd)
		return NULL;
	kref_init(&cmd->ref);
	init_completion(&cmd->done);
	INIT_LIST_HEAD(&cmd->entry);
	cmd->in = kvmalloc(in_len, GFP_KERNEL);
	cmd->out = kvzalloc(out_len, GFP_KERNEL);
	if (!cmd->in || !cmd->out) {
		vfw_cmd_put(cmd);
		return NULL;
	}
	memcpy(cmd->in, in, in_len);
	cmd->out_len = out_len;
	cmd->request.scope = scope;
	cmd->request.uid = cpu_to_le16(uid);
	cmd->request.in_len = cpu_to_le32(in_len);
	cmd->request.out_len = cpu_to_le32(out_len);
	return cmd;
}

static unsigned int vfw_sg_count(const void *buf, u32 len)
{
	if (!is_vmalloc_addr(buf))
		return 1;
	return DIV_ROUND_UP(offset_in_page(buf) + len, PAGE_SIZE);
}

/* Adds a header and a buffer to sg, and ends the list there. */
static void vfw_sg_fill(struct scatterlist *sg, void *head, u32 head_len,
			void *buf, u32 len)
{
	unsigned int n = vfw_sg_count(buf, len);
	unsigned int i;

	sg_init_table(sg, n + 1);
	sg_set_buf(&sg[0], head, head_len);
	if (!is_vmalloc_addr(buf)) {
		sg_set_buf(&sg[1], buf, len);
		return;
	}
	for (i = 1; i <= n; i++) {
		u32 off = offset_in_page(buf);
		u32 part = min_t(u32, len, PAGE_SIZE - off);

		sg_set_page(&sg[i], vmalloc_to_page(buf), part, off);
		buf += part;
		len -= part;
	}
}

/* Hands a command to the device; -ENOSPC if the ring is full. */
static int vfw_cmd_post(struct vfw_dev *vfw, struct vfw_cmd *cmd,
			struct scatterlist *sgs[2])
{
	unsigned long flags;
	bool notify = false;
	int err;

	spin_lock_irqsave(&vfw->cmd_lock, flags);
	if (vfw->broken) {
		err = -ENODEV;
	} else {
		err = virtqueue_add_sgs(vfw->cmd_vq, sgs, 1, 1, cmd, GFP_ATOMIC);
		if (!err) {
			kref_get(&cmd->ref);
			list_add_tail(&cmd->entry, &vfw->pending);
			notify = virtqueue_kick_prepare(vfw->cmd_vq);
		}
	}
	spin_unlock_irqrestore(&vfw->cmd_lock, flags);
	if (notify)
		virtqueue_notify(vfw->cmd_vq);
	return err;
}

static int vfw_delivery_errno(u8 status)
{
	switch (status) {
	case VFW_OK:
		return 0;
	case VFW_TOO_LONG:
		return -EMSGSIZE;
	case VFW_DENIED:
		return -EBADMSG;
	case VFW_BAD_UID:
		return -EINVAL;
	case VFW_BUSY:
		return -EBUSY;
	default:
		return -EIO;
	}
}

/*
 * Executes a command and returns it, answered, or an error pointer if the
 * firmware did not get it. The caller puts it.
 */
static struct vfw_cmd *vfw_exec(struct vfw_dev *vfw, u8 scope, u16 uid,
				const void *in, u32 in_len, u32 out_len)
{
	unsigned long left = msecs_to_jiffies(timeout_ms);
	struct scatterlist *sg, *sgs[2];
	unsigned int in_sgs, out_sgs;
	struct vfw_cmd *cmd;
	int err;

	cmd = vfw_cmd_alloc(scope, uid, in, in_len, out_len);
	if (!cmd)
		return ERR_PTR(-ENOMEM);
	in_sgs = vfw_sg_count(cmd->in, in_len) + 1;
	out_sgs = vfw_sg_count(cmd->out, out_len) + 1;
	sg = kvmalloc_array(in_sgs + out_sgs, sizeof(*sg), GFP_KERNEL);
	if (!sg) {
		err = -ENOMEM;
		goto put;
	}
	sgs[0] = sg;
	sgs[1] = sg + in_sgs;
	vfw_sg_fill(sgs[0], &cmd->request, sizeof(cmd->request), cmd->in, in_len);
	vfw_sg_fill(sgs[1], &cmd->response, sizeof(cmd->response), cmd->out, out_len);

	for (;;) {
		err = vfw_cmd_post(vfw, cmd, sgs);
		if (err != -ENOSPC || !left)
			break;
		left = wait_event_timeout(vfw->room,
					  vfw->broken || vfw->cmd_vq->num_free, left);
		/* The ring may have room, but not enough: do not spin on it. */
		if (left > 1 && err == -ENOSPC) {
			schedule_timeout_uninterruptible(1);
			left--;
		}
	}
	kvfree(sg);
	if (err)
		goto put;

	if (!wait_for_completion_timeout(&cmd->done, left ?: 1)) {
		dev_err(&vfw->vdev->dev, "command %#x timed out\n",
			MLX5_GET(mbox_in, in, opcode));
		err = -ETIMEDOUT;
		goto put;
	}
	if (!cmd->answered) {
		err = -ENODEV;
		goto put;
	}
	if (cmd->used_len < sizeof(cmd->response)) {
		err = -EIO;
		goto put;
	}
	err = vfw_delivery_errno(cmd->response.status);
	if (!err && le32_to_cpu(cmd->response.out_len) > out_len)
		err = -EIO;
	if (err)
		goto put;
	return cmd;
put:
	vfw_cmd_put(cmd);
	return ERR_PTR(err);
}

static void vfw_cmd_done(struct virtqueue *vq)
{
	struct vfw_dev *vfw = vq->vdev->priv;
	struct vfw_cmd *cmd, *next;
	unsigned long flags;
	unsigned int len;
	LIST_HEAD(done);

	spin_lock_irqsave(&vfw->cmd_lock, flags);
	do {
		virtqueue_disable_cb(vq);
		while ((cmd = virtqueue_get_buf(vq, &len))) {
			cmd->used_len = len;
			cmd->answered = true;
			list_move_tail(&cmd->entry, &done);
		}
	} while (!virtqueue_enable_cb(vq));
	spin_unlock_irqrestore(&vfw->cmd_lock, flags);

	list_for_each_entry_safe(cmd, next, &done, entry) {
		list_del_init(&cmd->entry);
		complete(&cmd->done);
		vfw_cmd_put(cmd);
	}
	wake_up_all(&vfw->room);
}

/*
 * From now on no command goes to the device and none comes back; waiters go on
 * with an error. The buffers stay the device's until it is reset.
 */
static void vfw_break(struct vfw_dev *vfw)
{
	struct vfw_cmd *cmd;
	unsigned long flags;

	virtio_break_device(vfw->vdev);
	spin_lock_irqsave(&vfw->cmd_lock, flags);
	vfw->broken = true;
	list_for_each_entry(cmd, &vfw->pending, entry)
		complete_all(&cmd->done);
	spin_unlock_irqrestore(&vfw->cmd_lock, flags);
	wake_up_all(&vfw->room);
}

/*
 * A command of the driver itself, with a buffer for its outbox. Firmware
 * statuses become -EIO and a line in the log.
 */
static int vfw_driver_cmd(struct vfw_dev *vfw, const void *in, u32 in_len,
			  void *out, u32 out_len)
{
	struct vfw_cmd *cmd;
	u8 status;

	cmd = vfw_exec(vfw, VFW_SCOPE_DRIVER, 0, in, in_len,
		       max_t(u32, out_len, VFW_HEADER_LEN));
	if (IS_ERR(cmd)) {
		dev_err(&vfw->vdev->dev, "command %#x was not delivered: %pe\n",
			MLX5_GET(mbox_in, in, opcode), cmd);
		return PTR_ERR(cmd);
	}
	memcpy(out, cmd->out, out_len);
	status = MLX5_GET(mbox_out, cmd->out, status);
	if (status)
		dev_err(&vfw->vdev->dev,
			"command %#x op_mod %#x failed: status %#x syndrome %#x\n",
			MLX5_GET(mbox_in, in, opcode), MLX5_GET(mbox_in, in, op_mod),
			status, MLX5_GET(mbox_out, cmd->out, syndrome));
	vfw_cmd_put(cmd);
	return status ? -EIO : 0;
}

/* Commands that have nothing but a header. */
static int vfw_simple_cmd(struct vfw_dev *vfw, u16 opcode)
{
	u32 in[MLX5_ST_SZ_DW(mbox_in)] = {};
	u32 out[MLX5_ST_SZ_DW(mbox_out)] = {};

	MLX5_SET(mbox_in, in, opcode, opcode);
	return vfw_driver_cmd(vfw, in, sizeof(in), out, sizeof(out));
}

static int vfw_set_issi(struct vfw_dev *vfw)
{
	u32 query_out[MLX5_ST_SZ_DW(query_issi_out)] = {};
	u32 query_in[MLX5_ST_SZ_DW(query_issi_in)] = {};
	u32 out[MLX5_ST_SZ_DW(set_issi_out)] = {};
	u32 in[MLX5_ST_SZ_DW(set_issi_in)] = {};
	int err;

	MLX5_SET(query_issi_in, query_in, opcode, MLX5_CMD_OP_QUERY_ISSI);
	err = vfw_driver_cmd(vfw, query_in, sizeof(query_in), query_out, sizeof(query_out));
	if (err)
		return err;
	/* Without step 1 the firmware stays at 0, which serves as well. */
	if (!(MLX5_GET(query_issi_out, query_out, supported_issi_dw0) & BIT(1)))
		return 0;
	MLX5_SET(set_issi_in, in, opcode, MLX5_CMD_OP_SET_ISSI);
	MLX5_SET(set_issi_in, in, current_issi, 1);
	return vfw_driver_cmd(vfw, in, sizeof(in), out, sizeof(out));
}

static int vfw_give_some(struct vfw_dev *vfw, u32 count)
{
	u32 out[MLX5_ST_SZ_DW(manage_pages_out)] = {};
	u32 len = MLX5_ST_SZ_BYTES(manage_pages_in) + count * sizeof(u64);
	struct page **list;
	u32 n = 0, i;
	void *in;
	int err = -ENOMEM;

	in = kvzalloc(len, GFP_KERNEL);
	list = kvcalloc(count, sizeof(*list), GFP_KERNEL);
	if (!in || !list)
		goto free;
	for (n = 0; n < count; n++) {
		struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

		if (!page)
			goto free;
		list[n] = page;
		err = xa_err(xa_store(&vfw->pages, page_to_pfn(page), page, GFP_KERNEL));
		if (err) {
			__free_page(page);
			goto free;
		}
		MLX5_ARRAY_SET64(manage_pages_in, in, pas, n, page_to_phys(page));
	}
	MLX5_SET(manage_pages_in, in, opcode, MLX5_CMD_OP_MANAGE_PAGES);
	MLX5_SET(manage_pages_in, in, op_mod, VFW_PAGES_GIVE);
	MLX5_SET(manage_pages_in, in, input_num_entries, count);
	err = vfw_driver_cmd(vfw, in, len, out, sizeof(out));
	/*
	 * The firmware refused: the pages are ours. When it is not known what
	 * it did, they are kept until the device is reset.
	 */
	if (!err || err != -EIO)
		n = 0;
free:
	for (i = 0; i < n; i++) {
		xa_erase(&vfw->pages, page_to_pfn(list[i]));
		__free_page(list[i]);
	}
	kvfree(list);
	kvfree(in);
	return err;
}

static int vfw_give_pages(struct vfw_dev *vfw, u32 count)
{
	int err = 0;

	if (count > VFW_PAGES_MAX) {
		dev_err(&vfw->vdev->dev, "the firmware wants %u pages\n", count);
		return -E2BIG;
	}
	while (count && !err) {
		u32 part = min_t(u32, count, VFW_PAGES_PER_CMD);

		err = vfw_give_some(vfw, part);
		count -= part;
	}
	return err;
}

/* Takes up to count pages back; returns how many came, or an error. */
static int vfw_take_some(struct vfw_dev *vfw, u32 count)
{
	u32 len = MLX5_ST_SZ_BYTES(manage_pages_out) + count * sizeof(u64);
	u32 in[MLX5_ST_SZ_DW(manage_pages_in)] = {};
	void *out = kvzalloc(len, GFP_KERNEL);
	u32 n, i;
	int err;

	if (!out)
		return -ENOMEM;
	MLX5_SET(manage_pages_in, in, opcode, MLX5_CMD_OP_MANAGE_PAGES);
	MLX5_SET(manage_pages_in, in, op_mod, VFW_PAGES_TAKE);
	MLX5_SET(manage_pages_in, in, input_num_entries, count);
	err = vfw_driver_cmd(vfw, in, sizeof(in), out, len);
	if (err)
		goto free;
	n = MLX5_GET(manage_pages_out, out, output_num_entries);
	if (n > count) {
		dev_err(&vfw->vdev->dev, "asked for %u pages, got %u\n", count, n);
		err = -EIO;
		goto free;
	}
	for (i = 0; i < n; i++) {
		u64 addr = MLX5_GET64(manage_pages_out, out, pas[i]);
		struct page *page = xa_erase(&vfw->pages, addr >> PAGE_SHIFT);

		if (page)
			__free_page(page);
		else
			dev_err(&vfw->vdev->dev, "page %#llx was never given\n", addr);
	}
	err = n;
free:
	kvfree(out);
	return err;
}

static void vfw_take_pages(struct vfw_dev *vfw, u32 count)
{
	while (count) {
		int n = vfw_take_some(vfw, min_t(u32, count, VFW_PAGES_PER_CMD));

		if (n <= 0)
			return;
		count -= n;
	}
}

static void vfw_free_pages(struct vfw_dev *vfw)
{
	struct page *page;
	unsigned long pfn;

	xa_for_each(&vfw->pages, pfn, page) {
		xa_erase(&vfw->pages, pfn);
		__free_page(page);
	}
	xa_destroy(&vfw->pages);
}

static int vfw_query_pages(struct vfw_dev *vfw, u16 which, s32 *count)
{
	u32 out[MLX5_ST_SZ_DW(query_pages_out)] = {};
	u32 in[MLX5_ST_SZ_DW(query_pages_in)] = {};
	int err;

	MLX5_SET(query_pages_in, in, opcode, MLX5_CMD_OP_QUERY_PAGES);
	MLX5_SET(query_pages_in, in, op_mod, which);
	err = vfw_driver_cmd(vfw, in, sizeof(in), out, sizeof(out));
	if (!err)
		*count = MLX5_GET(query_pages_out, out, num_pages);
	return err;
}

static int vfw_satisfy_pages(struct vfw_dev *vfw, u16 which)
{
	s32 count;
	int err = vfw_query_pages(vfw, which, &count);

	if (err || count <= 0)
		return err;
	return vfw_give_pages(vfw, count);
}

/* Reads the general capabilities and sets those that are the driver's choice. */
static int vfw_set_caps(struct vfw_dev *vfw)
{
	u32 query_in[MLX5_ST_SZ_DW(query_hca_cap_in)] = {};
	u32 set_out[MLX5_ST_SZ_DW(set_hca_cap_out)] = {};
	u32 out_len = MLX5_ST_SZ_BYTES(query_hca_cap_out);
	u32 set_len = MLX5_ST_SZ_BYTES(set_hca_cap_in);
	void *out = kzalloc(out_len, GFP_KERNEL);
	void *set = kzalloc(set_len, GFP_KERNEL);
	void *cap;
	int err = -ENOMEM;

	if (!out || !set)
		goto free;
	MLX5_SET(query_hca_cap_in, query_in, opcode, MLX5_CMD_OP_QUERY_HCA_CAP);
	/* The general page, current values. */
	MLX5_SET(query_hca_cap_in, query_in, op_mod, 1);
	err = vfw_driver_cmd(vfw, query_in, sizeof(query_in), out, out_len);
	if (err)
		goto free;
	cap = MLX5_ADDR_OF(query_hca_cap_out, out, capability);
	vfw->uctx_cap = MLX5_GET(cmd_hca_cap, cap, uctx_cap);
	MLX5_SET(set_hca_cap_in, set, opcode, MLX5_CMD_OP_SET_HCA_CAP);
	cap = MLX5_ADDR_OF(set_hca_cap_in, set, capability);
	memcpy(cap, MLX5_ADDR_OF(query_hca_cap_out, out, capability),
	       MLX5_ST_SZ_BYTES(cmd_hca_cap));
	MLX5_SET(cmd_hca_cap, cap, cmdif_checksum, 0);
	MLX5_SET(cmd_hca_cap, cap, log_uar_page_sz, PAGE_SHIFT - 12);
	err = vfw_driver_cmd(vfw, set, set_len, set_out, sizeof(set_out));
free:
	kfree(set);
	kfree(out);
	return err;
}

static int vfw_bring_up(struct vfw_dev *vfw)
{
	int err;

	err = vfw_simple_cmd(vfw, MLX5_CMD_OP_ENABLE_HCA);
	if (err)
		return err;
	err = vfw_set_issi(vfw);
	if (!err)
		err = vfw_satisfy_pages(vfw, VFW_QUERY_BOOT_PAGES);
	if (!err)
		err = vfw_set_caps(vfw);
	if (!err && !vfw->uctx_cap) {
		dev_err(&vfw->vdev->dev, "the firmware has no user contexts\n");
		err = -EOPNOTSUPP;
	}
	if (!err)
		err = vfw_satisfy_pages(vfw, VFW_QUERY_INIT_PAGES);
	if (!err)
		err = vfw_simple_cmd(vfw, MLX5_CMD_OP_INIT_HCA);
	return err;
}

static void vfw_bring_down(struct vfw_dev *vfw)
{
	if (vfw_simple_cmd(vfw, MLX5_CMD_OP_TEARDOWN_HCA))
		return;
	vfw_take_pages(vfw, VFW_PAGES_MAX);
	vfw_simple_cmd(vfw, MLX5_CMD_OP_DISABLE_HCA);
}

static void vfw_page_request(struct vfw_dev *vfw, const u8 *data)
{
	/* struct mlx5_eqe_page_req: func_id at 2, num_pages at 4, big-endian */
	s32 count = (s32)get_unaligned_be32(data + 4);

	if (count > 0) {
		if (vfw_give_pages(vfw, count)) {
			u32 out[MLX5_ST_SZ_DW(manage_pages_out)] = {};
			u32 in[MLX5_ST_SZ_DW(manage_pages_in)] = {};

			MLX5_SET(manage_pages_in, in, opcode, MLX5_CMD_OP_MANAGE_PAGES);
			MLX5_SET(manage_pages_in, in, op_mod, VFW_PAGES_CANT_GIVE);
			vfw_driver_cmd(vfw, in, sizeof(in), out, sizeof(out));
		}
	} else if (count < 0 && count >= -(s32)VFW_PAGES_MAX) {
		vfw_take_pages(vfw, -count);
	}
}

static int vfw_post_event(struct vfw_dev *vfw, struct vfw_event *event)
{
	struct scatterlist sg;

	sg_init_one(&sg, event, sizeof(*event));
	return virtqueue_add_inbuf(vfw->event_vq, &sg, 1, event, GFP_KERNEL);
}

static void vfw_event_work(struct work_struct *work)
{
	struct vfw_dev *vfw = container_of(work, struct vfw_dev, event_work);
	struct vfw_event *event;
	unsigned int len;

	do {
		virtqueue_disable_cb(vfw->event_vq);
		while ((event = virtqueue_get_buf(vfw->event_vq, &len))) {
			/* The device may write the buffer again once it is posted. */
			struct vfw_event copy = *event;

			if (vfw_post_event(vfw, event))
				dev_err(&vfw->vdev->dev, "an event buffer is lost\n");
			virtqueue_kick(vfw->event_vq);
			if (len < sizeof(copy))
				continue;
			if (copy.flags & VFW_EVENT_OVERFLOW) {
				dev_warn(&vfw->vdev->dev, "events were lost\n");
				vfw_satisfy_pages(vfw, VFW_QUERY_REGULAR_PAGES);
			}
			if (copy.type == MLX5_EVENT_TYPE_PAGE_REQUEST)
				vfw_page_request(vfw, copy.data);
			else
				dev_dbg(&vfw->vdev->dev, "event %#x sub-type %#x\n",
					copy.type, copy.sub_type);
		}
	} while (!virtqueue_is_broken(vfw->event_vq) &&
		 !virtqueue_enable_cb(vfw->event_vq));
}

static void vfw_event_ready(struct virtqueue *vq)
{
	struct vfw_dev *vfw = vq->vdev->priv;

	schedule_work(&vfw->event_work);
}

static int vfw_post_events(struct vfw_dev *vfw)
{
	unsigned int count = min_t(unsigned int, VFW_EVENT_BUFFERS,
				   virtqueue_get_vring_size(vfw->event_vq));
	unsigned int i;
	int err;

	vfw->events = kcalloc(count, sizeof(*vfw->events), GFP_KERNEL);
	if (!vfw->events)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		err = vfw_post_event(vfw, &vfw->events[i]);
		if (err)
			return err;
	}
	virtqueue_kick(vfw->event_vq);
	return 0;
}

static struct vfw_dev *vfw_of(struct fwctl_uctx *uctx)
{
	return container_of(uctx->fwctl, struct vfw_fwctl, fwctl)->vfw;
}

static int vfw_open_uctx(struct fwctl_uctx *uctx)
{
	struct vfw_uctx *vctx = container_of(uctx, struct vfw_uctx, uctx);
	u32 out[MLX5_ST_SZ_DW(create_uctx_out)] = {};
	u32 in[MLX5_ST_SZ_DW(create_uctx_in)] = {};
	struct vfw_dev *vfw = vfw_of(uctx);
	int err;

	if (READ_ONCE(vfw->going))
		return -ENODEV;
	vctx->caps = vfw->uctx_cap & VFW_UCTX_TOOLS;
	MLX5_SET(create_uctx_in, in, opcode, MLX5_CMD_OP_CREATE_UCTX);
	MLX5_SET(create_uctx_in, in, uctx.cap, vctx->caps);
	err = vfw_driver_cmd(vfw, in, sizeof(in), out, sizeof(out));
	if (err)
		return err;
	vctx->uid = MLX5_GET(create_uctx_out, out, uid);
	return 0;
}

static void vfw_close_uctx(struct fwctl_uctx *uctx)
{
	struct vfw_uctx *vctx = container_of(uctx, struct vfw_uctx, uctx);
	u32 out[MLX5_ST_SZ_DW(destroy_uctx_out)] = {};
	u32 in[MLX5_ST_SZ_DW(destroy_uctx_in)] = {};
	struct vfw_dev *vfw = vfw_of(uctx);

	/* A reset ends all user contexts. */
	if (READ_ONCE(vfw->broken))
		return;
	MLX5_SET(destroy_uctx_in, in, opcode, MLX5_CMD_OP_DESTROY_UCTX);
	MLX5_SET(destroy_uctx_in, in, uid, vctx->uid);
	vfw_driver_cmd(vfw, in, sizeof(in), out, sizeof(out));
}

static void *vfw_info(struct fwctl_uctx *uctx, size_t *length)
{
	struct vfw_uctx *vctx = container_of(uctx, struct vfw_uctx, uctx);
	struct fwctl_info_mlx5 *info = kzalloc_obj(*info);

	if (!info)
		return ERR_PTR(-ENOMEM);
	info->uid = vctx->uid;
	info->uctx_caps = vctx->caps;
	*length = sizeof(*info);
	return info;
}

static void *vfw_user_cmd(struct vfw_dev *vfw, struct vfw_uctx *vctx,
			  enum fwctl_rpc_scope scope, void *rpc_in,
			  size_t in_len, size_t out_len)
{
	struct vfw_cmd *cmd;
	void *out;

	cmd = vfw_exec(vfw, scope, vctx->uid, rpc_in, in_len, out_len);
	if (IS_ERR(cmd))
		return cmd;
	/* The outbox is the caller's; the command goes without it. */
	out = cmd->out;
	cmd->out = NULL;
	vfw_cmd_put(cmd);
	return out;
}

static void *vfw_fw_rpc(struct fwctl_uctx *uctx, enum fwctl_rpc_scope scope,
			void *rpc_in, size_t in_len, size_t *out_len)
{
	struct vfw_uctx *vctx = container_of(uctx, struct vfw_uctx, uctx);
	struct vfw_dev *vfw = vfw_of(uctx);
	void *out;

	if (in_len < VFW_HEADER_LEN || *out_len < VFW_HEADER_LEN ||
	    in_len > vfw->max_in || *out_len > vfw->max_out)
		return ERR_PTR(-EMSGSIZE);
	if (!vfw_allowed(MLX5_GET(mbox_in, rpc_in, opcode),
			 MLX5_GET(mbox_in, rpc_in, op_mod), scope))
		return ERR_PTR(-EBADMSG);
	MLX5_SET(mbox_in, rpc_in, uid, vctx->uid);

	atomic_inc(&vfw->users);
	/* Pairs with vfw_drain(): either it sees us or we see it. */
	smp_mb__after_atomic();
	if (READ_ONCE(vfw->going))
		out = ERR_PTR(-ENODEV);
	else
		out = vfw_user_cmd(vfw, vctx, scope, rpc_in, in_len, *out_len);
	if (atomic_dec_and_test(&vfw->users))
		wake_up_all(&vfw->room);
	return out;
}

static const struct fwctl_ops vfw_ops = {
	.device_type = FWCTL_DEVICE_TYPE_MLX5,
	.uctx_size = sizeof(struct vfw_uctx),
	.open_uctx = vfw_open_uctx,
	.close_uctx = vfw_close_uctx,
	.info = vfw_info,
	.fw_rpc = vfw_fw_rpc,
};

static int vfw_register(struct vfw_dev *vfw)
{
	struct vfw_fwctl *f;
	int err;

	/* Tools find the PCI device through the parent. */
	f = fwctl_alloc_device(vfw->vdev->dev.parent, &vfw_ops, struct vfw_fwctl, fwctl);
	if (!f)
		return -ENOMEM;
	f->vfw = vfw;
	err = fwctl_register(&f->fwctl);
	if (err) {
		fwctl_put(&f->fwctl);
		return err;
	}
	vfw->fwctl = f;
	return 0;
}

static int vfw_read_config(struct vfw_dev *vfw)
{
	struct virtio_device *vdev = vfw->vdev;
	struct vfw_config config;

	virtio_cread_bytes(vdev, 0, &config, sizeof(config));
	if (le32_to_cpu(config.magic) != VFW_MAGIC ||
	    le32_to_cpu(config.version) != VFW_VERSION ||
	    le32_to_cpu(config.device_type) != VFW_DEVICE_MLX5) {
		dev_err(&vdev->dev, "magic %#x version %u type %u is not known\n",
			le32_to_cpu(config.magic), le32_to_cpu(config.version),
			le32_to_cpu(config.device_type));
		return -ENODEV;
	}
	vfw->max_in = min(le32_to_cpu(config.max_in), VFW_MAX_MESSAGE);
	vfw->max_out = min(le32_to_cpu(config.max_out), VFW_MAX_MESSAGE);
	if (vfw->max_in < MLX5_ST_SZ_BYTES(set_hca_cap_in) ||
	    vfw->max_out < MLX5_ST_SZ_BYTES(query_hca_cap_out)) {
		dev_err(&vdev->dev, "messages of %u and %u bytes are too short\n",
			vfw->max_in, vfw->max_out);
		return -ENODEV;
	}
	return 0;
}

/* Ends the device's use of everything that is ours, and frees it. */
static void vfw_reset(struct vfw_dev *vfw)
{
	struct vfw_cmd *cmd, *next;

	vfw_break(vfw);
	/* The work looks at the queue's broken state and ends. */
	cancel_work_sync(&vfw->event_work);
	virtio_reset_device(vfw->vdev);
	cancel_work_sync(&vfw->event_work);
	list_for_each_entry_safe(cmd, next, &vfw->pending, entry) {
		list_del_init(&cmd->entry);
		vfw_cmd_put(cmd);
	}
	vfw->vdev->config->del_vqs(vfw->vdev);
	vfw_free_pages(vfw);
	kfree(vfw->events);
}

static int vfw_probe(struct virtio_device *vdev)
{
	struct virtqueue_info queues[] = {
		{ "command", vfw_cmd_done },
		{ "event", vfw_event_ready },
	};
	struct virtqueue *vqs[ARRAY_SIZE(queues)];
	struct vfw_dev *vfw;
	int err;

	vfw = kzalloc_obj(*vfw);
	if (!vfw)
		return -ENOMEM;
	vfw->vdev = vdev;
	vdev->priv = vfw;
	spin_lock_init(&vfw->cmd_lock);
	INIT_LIST_HEAD(&vfw->pending);
	init_waitqueue_head(&vfw->room);
	atomic_set(&vfw->users, 0);
	INIT_WORK(&vfw->event_work, vfw_event_work);
	xa_init(&vfw->pages);

	err = vfw_read_config(vfw);
	if (err)
		goto free;
	err = virtio_find_vqs(vdev, ARRAY_SIZE(queues), vqs, queues, NULL);
	if (err)
		goto free;
	vfw->cmd_vq = vqs[0];
	vfw->event_vq = vqs[1];
	virtio_device_ready(vdev);
	err = vfw_post_events(vfw);
	if (err)
		goto reset;
	err = vfw_bring_up(vfw);
	if (err)
		goto reset;
	err = vfw_register(vfw);
	if (err) {
		vfw_bring_down(vfw);
		goto reset;
	}
	return 0;
reset:
	vfw_reset(vfw);
free:
	vdev->priv = NULL;
	kfree(vfw);
	return err;
}

/*
 * Lets user commands that run come to their end, but not for longer than the
 * grace: fwctl_unregister() waits for them, and a device that does not answer
 * must not keep it from being removed.
 */
static void vfw_drain(struct vfw_dev *vfw)
{
	WRITE_ONCE(vfw->going, true);
	/* Pairs with vfw_fw_rpc(). */
	smp_mb();
	if (!wait_event_timeout(vfw->room, !atomic_read(&vfw->users),
				msecs_to_jiffies(VFW_REMOVE_GRACE_MS)))
		vfw_break(vfw);
}

static void vfw_remove(struct virtio_device *vdev)
{
	struct vfw_dev *vfw = vdev->priv;

	if (virtqueue_is_broken(vfw->cmd_vq))
		vfw_break(vfw);
	vfw_drain(vfw);
	fwctl_unregister(&vfw->fwctl->fwctl);
	if (!vfw->broken)
		vfw_bring_down(vfw);
	vfw_reset(vfw);
	fwctl_put(&vfw->fwctl->fwctl);
	vdev->priv = NULL;
	kfree(vfw);
}

static const struct virtio_device_id vfw_ids[] = {
	{ VIRTIO_ID_FWCTL, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, vfw_ids);

static const unsigned int vfw_features[] = {
	VIRTIO_F_VERSION_1,
};

static int vfw_validate(struct virtio_device *vdev)
{
	if (!virtio_has_feature(vdev, VIRTIO_F_VERSION_1)) {
		dev_err(&vdev->dev, "the device is not of virtio version 1\n");
		return -ENODEV;
	}
	return 0;
}

static struct virtio_driver vfw_driver = {
	.driver.name = KBUILD_MODNAME,
	.id_table = vfw_ids,
	.feature_table = vfw_features,
	.feature_table_size = ARRAY_SIZE(vfw_features),
	.validate = vfw_validate,
	.probe = vfw_probe,
	.remove = vfw_remove,
};
module_virtio_driver(vfw_driver);

MODULE_IMPORT_NS("FWCTL");
MODULE_DESCRIPTION("fwctl over a virtio firmware mailbox");
MODULE_AUTHOR("The fwctl-emu authors");
MODULE_LICENSE("GPL");
