/* support/control_group.h: the control groups that this process is in, of both of Linux's versions. What holds for a group holds for those in it:
 * a limit is the least of the group's own and of those around it. In a container its own group is most often the outermost that is seen; under a batch
 * system or systemd it lies further in. */
#ifndef PL_CONTROL_GROUP_H
#define PL_CONTROL_GROUP_H
#include "support/base.h"

/* Its files are in `folder`. */
typedef void ControlGroupSeen(void *cx, const char *folder, bool second_version);

/* Each group of `controller` ("cpu", "memory") that may limit this process, by what lies below `root` ("" is this system). A folder need not be there. */
void control_groups(const char *root, const char *controller, ControlGroupSeen *seen, void *cx);

#endif
