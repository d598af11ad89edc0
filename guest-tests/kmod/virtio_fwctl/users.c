// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fwctl device: user contexts and their commands.
 */
#include <linux/slab.h>
#include <uapi/fwctl/mlx5.h>

#include "virtio_fwctl.h"
#include "virtio_fwctl_scope.h"

#define VFW_REMOVE_GRACE_MS	2000
#define VFW_UCTX_TOOLS		0x4	/* MLX5_UCTX_OBJECT_CAP_TOOLS_RESOURCES */

static struct vfw_dev *vfw_of(struct fwctl_uctx *uctx)
{
	return container_of(uctx->fwctl, struct vfw_fwctl, fwctl)->vfw;
}

/*
 * A user's command begins; false if the device is going away. Every begin has
 * an end, whatever it returns.
 */
static bool vfw_user_begin(struct vfw_dev *vfw)
{
	atomic_inc(&vfw->users);
	/* Pairs with vfw_drain(): either it sees us or we see it. */
	smp_mb__after_atomic();
	return !READ_ONCE(vfw->going);
}

static void vfw_user_end(struct vfw_dev *vfw)
{
	if (atomic_dec_and_test(&vfw->users))
		wake_up_all(&vfw->room);
}

static int vfw_open_uctx(struct fwctl_uctx *uctx)
{
	struct vfw_uctx *vctx = container_of(uctx, struct vfw_uctx, uctx);
	u32 out[MLX5_ST_SZ_DW(create_uctx_out)] = {};
	u32 in[MLX5_ST_SZ_DW(create_uctx_in)] = {};
	struct vfw_dev *vfw = vfw_of(uctx);
	int err = -ENODEV;

	vctx->caps = vfw->uctx_cap & VFW_UCTX_TOOLS;
	MLX5_SET(create_uctx_in, in, opcode, MLX5_CMD_OP_CREATE_UCTX);
	MLX5_SET(create_uctx_in, in, uctx.cap, vctx->caps);
	if (vfw_user_begin(vfw))
		err = vfw_driver_cmd(vfw, in, sizeof(in), out, sizeof(out));
	vfw_user_end(vfw);
	if (!err)
		vctx->uid = MLX5_GET(create_uctx_out, out, uid);
	return err;
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

	if (vfw_user_begin(vfw))
		out = vfw_user_cmd(vfw, vctx, scope, rpc_in, in_len, *out_len);
	else
		out = ERR_PTR(-ENODEV);
	vfw_user_end(vfw);
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

int vfw_register(struct vfw_dev *vfw)
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

/*
 * Lets what users run come to their end, but not for longer than the
 * grace: fwctl_unregister() waits for them, and a device that does not answer
 * must not keep it from being removed.
 */
void vfw_drain(struct vfw_dev *vfw)
{
	WRITE_ONCE(vfw->going, true);
	/* Pairs with vfw_user_begin(). */
	smp_mb();
	if (!wait_event_timeout(vfw->room, !atomic_read(&vfw->users),
				msecs_to_jiffies(VFW_REMOVE_GRACE_MS)))
		vfw_break(vfw);
}
