/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel of a shell: libxl builds no PVH domain without one, and the guest's own may not exist on this host. It is
 * loaded, never run, and overwritten by the first synchronisation; halting is for whoever unpauses a shell by hand.
 */
#define XEN_ELFNOTE_PHYS32_ENTRY 18	/* xen/include/public/elfnote.h */

	.section .note.Xen, "a", @note
	.balign 4
	.long 2f - 1f, 4f - 3f, XEN_ELFNOTE_PHYS32_ENTRY
1:	.asciz "Xen"
2:	.balign 4
3:	.long start
4:
	.text
	.globl start
start:	cli
5:	hlt
	jmp 5b

	.section .note.GNU-stack, "", @progbits
