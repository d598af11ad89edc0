// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests on the command queue. Each has a time limit, and a buffer whose
 * waiter gave up stays until the device gives it back.
 */
#include <linux/moduleparam.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "virtio_fwctl.h"

static unsigned int timeout_ms = 60000;
module_param(timeout_ms, uint, 0644);
MODULE_PARM_DESC(timeout_ms, "How long a command may take, in milliseconds (default 60000)");

static void vfw_cmd_free(struct kref *ref)
{
	struct vfw_cmd *cmd = container_of(ref, struct vfw_cmd, ref);

	kvfree(cmd->in);
	kvfree(cmd->out);
	kfree(cmd);
}

void vfw_cmd_put(struct vfw_cmd *cmd)
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
struct vfw_cmd *vfw_exec(struct vfw_dev *vfw, u8 scope, u16 uid,
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

void vfw_cmd_done(struct virtqueue *vq)
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
		/* A broken queue gives nothing back and would say so for ever. */
		if (virtqueue_is_broken(vq))
			break;
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
void vfw_break(struct vfw_dev *vfw)
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
int vfw_driver_cmd(struct vfw_dev *vfw, const void *in, u32 in_len,
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
