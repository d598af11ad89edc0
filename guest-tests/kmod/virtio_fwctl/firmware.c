// SPDX-License-Identifier: GPL-2.0-only
/*
 * The function's life: ENABLE_HCA, pages, capabilities, INIT_HCA, and back.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/unaligned.h>

#include "virtio_fwctl.h"

#define VFW_PAGES_PER_CMD	512
#define VFW_PAGES_MAX		BIT(18)	/* the firmware's demand is bounded */

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

void vfw_free_pages(struct vfw_dev *vfw)
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

int vfw_bring_up(struct vfw_dev *vfw)
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

void vfw_bring_down(struct vfw_dev *vfw)
{
	if (vfw_simple_cmd(vfw, MLX5_CMD_OP_TEARDOWN_HCA))
		return;
	vfw_take_pages(vfw, VFW_PAGES_MAX);
	vfw_simple_cmd(vfw, MLX5_CMD_OP_DISABLE_HCA);
}

void vfw_page_request(struct vfw_dev *vfw, const u8 *data)
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

/* Events that were lost may have been page requests. */
void vfw_events_lost(struct vfw_dev *vfw)
{
	dev_warn(&vfw->vdev->dev, "events were lost\n");
	vfw_satisfy_pages(vfw, VFW_QUERY_REGULAR_PAGES);
}
