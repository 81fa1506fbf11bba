variable "name" {
  description = "What the pair is called: its hosts are NAME-a and NAME-b."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,29}$", var.name))
    error_message = "name: a lower-case letter, then up to 29 lower-case letters, digits and hyphens."
  }
}

variable "vpc_id" {
  description = "The VPC that the pair stands in."
  type        = string

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id: vpc-…"
  }
}

variable "zone_ids" {
  description = "The IDs (use1-az1, not us-east-1a) of the two zones. IDs mean the same place in every account, names do not."
  type        = list(string)

  validation {
    condition     = length(var.zone_ids) == 2 && length(distinct(var.zone_ids)) == 2
    error_message = "zone_ids: two different zones."
  }

  validation {
    condition     = alltrue([for id in var.zone_ids : can(regex("^[a-z]+[0-9]+-az[0-9]+$", id))])
    error_message = "zone_ids: IDs such as use1-az1; us-east-1a is a name."
  }
}

variable "subnet_cidrs" {
  description = "Free IPv4 blocks of the VPC for the two hosts' own subnets, in the order of zone_ids; /28 is enough."
  type        = list(string)

  validation {
    condition     = length(var.subnet_cidrs) == 2 && alltrue([for cidr in var.subnet_cidrs : can(cidrhost(cidr, 10))])
    error_message = "subnet_cidrs: two IPv4 blocks of at least 16 addresses."
  }
}

variable "subnet_route_table_id" {
  description = "The route table of the two subnets. It has to lead to where the packages come from (NAT or internet gateway)."
  type        = string

  validation {
    condition     = can(regex("^rtb-[0-9a-f]+$", var.subnet_route_table_id))
    error_message = "subnet_route_table_id: rtb-…"
  }
}

variable "route_table_ids" {
  description = "Every route table whose subnets have clients of the guests: each gets a route to each guest's address, and the hosts may replace those routes and no others."
  type        = list(string)

  validation {
    condition     = length(var.route_table_ids) > 0 && alltrue([for id in var.route_table_ids : can(regex("^rtb-[0-9a-f]+$", id))])
    error_message = "route_table_ids: at least one rtb-…"
  }
}

variable "guest_addresses" {
  description = "The guests' addresses, by guest: IPv4 addresses outside of the VPC's blocks, each routed as a /32 to the host that runs the guest."
  type        = map(string)

  validation {
    condition     = length(var.guest_addresses) > 0 && alltrue([for address in values(var.guest_addresses) : can(cidrhost("${address}/32", 0))])
    error_message = "guest_addresses: at least one IPv4 address, without a prefix length."
  }

  validation {
    condition     = length(distinct(values(var.guest_addresses))) == length(var.guest_addresses)
    error_message = "guest_addresses: two guests have the same address."
  }
}

variable "guest_ingress" {
  description = "What the world may send to the guests. Security groups see guests' packets on the hosts' interfaces."
  type = list(object({
    protocol  = string
    from_port = number
    to_port   = number
    cidr      = string
  }))
  default = []

  validation {
    condition     = alltrue([for rule in var.guest_ingress : contains(["tcp", "udp", "icmp"], rule.protocol) && can(cidrhost(rule.cidr, 0))])
    error_message = "guest_ingress: protocol tcp, udp or icmp, and an IPv4 block."
  }

  validation {
    # They carry the guests' memory.
    condition     = alltrue([for rule in var.guest_ingress : rule.protocol == "icmp" || rule.to_port < 7788 || rule.from_port > 7789])
    error_message = "guest_ingress: ports 7788 and 7789 are the pair's own."
  }
}

variable "packages" {
  description = "Where the hosts get understudy_*.deb and understudy-xen_*.deb (make deb, make hypervisor) from, and their SHA-256."
  type = list(object({
    url    = string
    sha256 = string
  }))

  validation {
    condition     = length(var.packages) >= 2 && alltrue([for p in var.packages : can(regex("^https://\\S+$", p.url)) && can(regex("^[0-9a-f]{64}$", p.sha256))])
    error_message = "packages: at least understudy and understudy-xen, with an https URL and a SHA-256 in lower-case hexadecimal."
  }
}

variable "instance_type" {
  description = "Of both hosts. See nested_virtualization_families."
  type        = string
  default     = "m8i.xlarge"
}

variable "nested_virtualization_families" {
  description = "Instance families that pass VMX on to a nested hypervisor, which is asked for where instance_type is of one. Without it Xen can run PV guests only."
  type        = list(string)
  default     = ["c8i", "c8i-flex", "m8i", "m8i-flex", "r8i", "r8i-flex"]
}

variable "ami_id" {
  description = "A Debian 12 amd64 image; null: Debian's newest."
  type        = string
  default     = null
}

variable "root_volume_gib" {
  description = "Size of the hosts' root volumes."
  type        = number
  default     = 20

  validation {
    condition     = var.root_volume_gib >= 10
    error_message = "root_volume_gib: at least 10."
  }
}

variable "dom0_memory_mib" {
  description = "Memory of each host's control domain; guests and shells get the rest."
  type        = number
  default     = 2048

  validation {
    condition     = var.dom0_memory_mib >= 1024
    error_message = "dom0_memory_mib: at least 1024."
  }
}

variable "bridge_address" {
  description = "The address of xenbr0, to which guests are attached, with its prefix length. The same on both hosts, so that guests find their router after a failover."
  type        = string
  default     = "192.168.77.1/24"

  validation {
    condition     = can(cidrhost(var.bridge_address, 0))
    error_message = "bridge_address: ADDRESS/LENGTH."
  }
}

variable "takeover" {
  description = "What the backup does when the primary falls silent: see understudy.conf(5)."
  type        = string
  default     = "manual"

  validation {
    condition     = contains(["manual", "automatic-without-witness"], var.takeover)
    error_message = "takeover: manual or automatic-without-witness."
  }
}

variable "key_name" {
  description = "EC2 key pair for the user admin; null: none."
  type        = string
  default     = null
}

variable "ssh_cidrs" {
  description = "From where SSH to the hosts is allowed; nowhere by default."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.ssh_cidrs : can(cidrhost(cidr, 0)) && cidr != "0.0.0.0/0"])
    error_message = "ssh_cidrs: IPv4 blocks, but not the whole world."
  }
}

variable "reboot_when_unreachable" {
  description = "Lets CloudWatch reboot a host whose instance status check has failed for ten minutes: a host that hangs while it boots Xen then boots its plain kernel."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
