// SPDX-License-Identifier: GPL-2.0-only
/*
 * Driver of the virtio firmware mailbox device: brings the function up as a
 * PCI driver would, gives it pages, and offers it to users through fwctl.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>

#include "virtio_fwctl.h"

#define VFW_EVENT_BUFFERS	16
#define VFW_MAX_MESSAGE		(4U << 20)	/* whatever the device says */

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
			if (copy.flags & VFW_EVENT_OVERFLOW)
				vfw_events_lost(vfw);
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
